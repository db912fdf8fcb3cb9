-- Printed by `tl-data docs`: change the declarations in tl_data/functions, not this file.
-- The functions in DuckDB and Spark SQL. Register them first, in Python:
-- import tl_data; tl_data.register(con), where con is a DuckDB connection or a Spark session.
-- Each has a form that returns the error of a row as a value: try_tl_..., which gives
-- struct(value, error, usage, provenance).
-- tl_similarity(a, b) is the cosine of two vectors, -1 to 1; tl_json(text, path) reads a field of
-- JSON text: tl_json(json, '$.title').

-- Options of several functions:
--   index_id text: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is looked up in the session's index; a URL is analyzed without an index
--   temperature double: 0 to 1, randomness of the text; 0.2 by default
--   max_tokens bigint: maximum number of tokens to write; 4,096 by default
--   start_sec double: start of the part to analyze, in seconds; 0 by default
--   end_sec double: end of the part, in seconds; NULL is the end of the video. The part's length sets the price

-- tl_agg(texts, instruction, max_tokens => 1024)
-- Write one text from the texts of a group, with your own language model.
--   gives text
--   texts list of text: the texts of the group. NULL and empty texts are ignored; if no text is left, the result is NULL.
--   instruction text: what to write about the texts. NULL gives NULL.
--   max_tokens bigint: maximum number of tokens of the answer.
SELECT tl_agg((SELECT array_agg(v) FROM (VALUES ('a soup is cooked'), ('a pan is cleaned')) t(v)), 'What happens, in a sentence?');

-- tl_summarize(video, prompt => NULL, index_id => NULL, temperature => NULL, max_tokens => NULL, start_sec => NULL, end_sec => NULL)
-- Summarize a video as text.
--   gives text
--   video text: URL, path or id of a video, or id of an asset.
--   prompt text: purpose, length or format of the summary.
SELECT tl_summarize('https://example.com/tour.mp4', index_id => 'demo');

-- tl_chapters(video, prompt => NULL, index_id => NULL, temperature => NULL, max_tokens => NULL, start_sec => NULL, end_sec => NULL)
-- The chapters of a video, in order, with titles and summaries.
--   gives rows of chapter_number bigint, start_sec double, end_sec double, title text, summary text
--   video text: URL, path or id of a video, or id of an asset.
--   prompt text: what to divide the video by, such as topics.
SELECT * FROM tl_chapters('https://example.com/tour.mp4', index_id => 'demo');

-- tl_highlights(video, prompt => NULL, index_id => NULL, temperature => NULL, max_tokens => NULL, start_sec => NULL, end_sec => NULL)
-- The most notable parts of a video.
--   gives rows of start_sec double, end_sec double, highlight text, summary text
--   video text: URL, path or id of a video, or id of an asset.
--   prompt text: what counts as notable.
SELECT * FROM tl_highlights('https://example.com/tour.mp4', index_id => 'demo');

-- tl_gist(video, index_id => NULL, start_sec => NULL, end_sec => NULL)
-- Title, topics and hashtags of a video.
--   gives struct(title, topics, hashtags)
--   video text: URL, path or id of a video, or id of an asset.
SELECT tl_gist('https://example.com/tour.mp4', index_id => 'demo');

-- tl_analyze(video, prompt, index_id => NULL, temperature => NULL, max_tokens => NULL, start_sec => NULL, end_sec => NULL, images => NULL)
-- Answer a prompt about a video, as text.
--   gives text
--   video text: URL, path or id of a video, or id of an asset.
--   prompt text: the question or task. NULL gives NULL.
--   images list of text: up to 4 URLs or paths of pictures; the prompt refers to them as <@image1>, <@image2>
SELECT tl_analyze('https://example.com/tour.mp4', 'What is shown on the signs?', index_id => 'demo');

-- tl_extract(video, prompt, json_schema, index_id => NULL, temperature => NULL, max_tokens => NULL, start_sec => NULL, end_sec => NULL, images => NULL)
-- Answer a prompt about a video as JSON that conforms to a schema.
--   gives text
--   video text: URL, path or id of a video, or id of an asset.
--   prompt text: what to extract. NULL gives NULL.
--   json_schema text: the JSON Schema of the answer, as text. NULL gives NULL.
--   images list of text: up to 4 URLs or paths of pictures; the prompt refers to them as <@image1>, <@image2>
SELECT tl_extract('https://example.com/tour.mp4', 'What is the title?', '{"type": "object", "properties": {"title": {"type": "string"}}}', index_id => 'demo');

-- tl_segments(video, definitions, index_id => NULL, start_sec => NULL, end_sec => NULL, min_segment_sec => NULL, max_segment_sec => NULL, max_tokens => NULL)
-- The segments of a video that match definitions: one row per segment, with its fields as JSON.
--   gives rows of definition text, start_sec double, end_sec double, fields text
--   video text: URL, path or id of a video, or id of an asset.
--   definitions text: JSON list of objects with id, description and fields (name, type, description); NULL gives no rows.
--   min_segment_sec double: minimum length of a segment in seconds, 2 or more
--   max_segment_sec double: maximum length of a segment in seconds
--   max_tokens bigint: maximum number of tokens to write; 32,768 by default
SELECT * FROM tl_segments('https://example.com/tour.mp4', '[{"id": "shop", "description": "A shop is seen", "fields": [{"name": "sign", "type": "string", "description": "what its sign says"}]}]');

-- tl_search(index_id, query_text, max_hits => 10, search_options => NULL, filter => NULL, operator => NULL, group_by => NULL, threshold => NULL, adjust_confidence_level => NULL, sort_option => NULL, page_limit => NULL, include_user_metadata => NULL, transcription_options => NULL)
-- Search an index by words: one row per matching clip, best first.
--   gives rows of video_id text, start_sec double, end_sec double, score double, rank bigint, confidence text, thumbnail_url text, transcription text, user_metadata text
--   index_id text: name or id of the index.
--   query_text text: what to look for, in words; NULL gives no rows.
--   max_hits bigint: maximum number of clips (of videos, if grouped), over all pages
--   search_options list of text: sources to search: visual, audio, transcription (speech). NULL is all of the index
--   filter text: JSON object over metadata, such as {"duration": {"gte": 60}}
--   operator text: how several sources combine: or (the default), and
--   group_by text: clip (the default) or video; the rows are clips either way
--   threshold text: minimum confidence of a hit: high, medium, low, none; for models with scores
--   adjust_confidence_level double: 0 to 1, shifts the boundaries between the levels of confidence; for models with scores
--   sort_option text: score or clip_count; for models with scores
--   page_limit bigint: clips per request, 1 to 50
--   include_user_metadata boolean: whether to return the metadata of the videos as JSON
--   transcription_options list of text: lexical, semantic or both, for transcription
SELECT * FROM tl_search('demo', 'a red car');

-- tl_search_by_image(index_id, image, query_text => NULL, max_hits => 10, search_options => NULL, filter => NULL, operator => NULL, group_by => NULL, threshold => NULL, adjust_confidence_level => NULL, sort_option => NULL, page_limit => NULL, include_user_metadata => NULL, transcription_options => NULL, images => NULL)
-- Search an index by a picture: one row per matching clip, best first.
--   gives rows of video_id text, start_sec double, end_sec double, score double, rank bigint, confidence text, thumbnail_url text, transcription text, user_metadata text
--   index_id text: name or id of the index.
--   image text: URL or path of a JPEG or PNG; NULL gives no rows.
--   query_text text: words to narrow the picture down (Marengo 3.0 and the embedded engine).
--   max_hits bigint: maximum number of clips (of videos, if grouped), over all pages
--   search_options list of text: sources to search: visual, audio, transcription (speech). NULL is all of the index
--   filter text: JSON object over metadata, such as {"duration": {"gte": 60}}
--   operator text: how several sources combine: or (the default), and
--   group_by text: clip (the default) or video; the rows are clips either way
--   threshold text: minimum confidence of a hit: high, medium, low, none; for models with scores
--   adjust_confidence_level double: 0 to 1, shifts the boundaries between the levels of confidence; for models with scores
--   sort_option text: score or clip_count; for models with scores
--   page_limit bigint: clips per request, 1 to 50
--   include_user_metadata boolean: whether to return the metadata of the videos as JSON
--   transcription_options list of text: lexical, semantic or both, for transcription
--   images list of text: URLs or paths of further pictures; at most 10 pictures in total
SELECT * FROM tl_search_by_image('demo', 'https://example.com/car.jpg');

-- tl_embed_text(text, text_truncate => NULL, model_name => NULL, embedding_dimension => NULL)
-- The vector of a text, comparable with those of clips.
--   gives vector
--   text text: what to embed.
--   text_truncate text: where to cut a text that is too long: end, start or none (an error). In the service, Marengo 3.0 does not accept this option, and Marengo 3.5 accepts end and none.
--   model_name text: marengo3.0 or marengo3.5; NULL is the session's model
--   embedding_dimension bigint: numbers per vector; marengo3.5 makes 256 or 512
SELECT tl_embed_text('a red car');

-- tl_embed_image(image, model_name => NULL, embedding_dimension => NULL)
-- The vector of a picture, comparable with those of clips.
--   gives vector
--   image text: URL or path of a JPEG or PNG.
--   model_name text: marengo3.0 or marengo3.5; NULL is the session's model
--   embedding_dimension bigint: numbers per vector; marengo3.5 makes 256 or 512
SELECT tl_embed_image('https://example.com/car.jpg');

-- tl_audio_vectors(audio, audio_start_offset_sec => NULL)
-- The vectors of an audio file, comparable with those of clips.
--   gives rows of start_sec double, end_sec double, embedding_scope text, embedding_option text, vector vector
--   audio text: URL or path of a WAV, MP3 or FLAC.
--   audio_start_offset_sec double: start of the part to embed, in seconds.
SELECT * FROM tl_audio_vectors('https://example.com/jingle.wav');

-- tl_video_vectors(video, index_id => NULL, embedding_option => NULL, video_embedding_scope => NULL, video_clip_length => NULL, video_start_offset_sec => NULL, video_end_offset_sec => NULL)
-- The vectors of a video: one row per clip (or whole video) and kind of evidence.
--   gives rows of start_sec double, end_sec double, embedding_scope text, embedding_option text, vector vector
--   video text: id of an indexed video, or URL or path of a video file.
--   index_id text: name or id of the index of a video id. NULL is the session's index.
--   embedding_option list of text: kinds of evidence: visual, audio, transcription. NULL is all of them.
--   video_embedding_scope list of text: clip (the default), video, or both. For a URL or path.
--   video_clip_length bigint: seconds per clip, 2 to 10; 6 by default. For a URL or path.
--   video_start_offset_sec double: start of the part to embed, in seconds; requires the end. For a URL or path.
--   video_end_offset_sec double: end of the part to embed, in seconds; requires the start. For a URL or path.
SELECT * FROM tl_video_vectors('https://example.com/tour.mp4');

-- tl_index_video(video, index_id => NULL, user_metadata => NULL, enable_video_stream => NULL)
-- Index a video once and return its record.
--   gives struct(video_id, index_id, task_id, status, duration_sec, width, height, fps, size_bytes, asset_id)
--   video text: URL of a video file, path of a local one, or the id of an indexed video.
--   index_id text: name or id of the index; an unknown name creates an index. NULL is the session's index.
--   user_metadata text: JSON object to keep with a newly indexed video; search can filter by it.
--   enable_video_stream boolean: whether the platform keeps a stream for playback; true by default.
SELECT tl_index_video('https://example.com/tour.mp4', index_id => 'demo');

-- tl_clips(video, index_id => NULL, embedding_option => NULL)
-- The clips of a video: times, speech, thumbnail and vector.
--   gives rows of clip_number bigint, start_sec double, end_sec double, transcription text, thumbnail_url text, vector vector
--   video text: URL, path or id; a URL or path is indexed first, once.
--   index_id text: name or id of the index; NULL is the session's index.
--   embedding_option text: which vector: visual (the default), audio or transcription.
SELECT * FROM tl_clips('https://example.com/tour.mp4', index_id => 'demo');

-- tl_transcript(video, index_id => NULL, unit => NULL)
-- The spoken words of a video, with times; with `unit => 'speaker'`, also the speakers.
--   gives rows of start_sec double, end_sec double, text text, speaker text
--   video text: URL, path or id; a URL or path is indexed first, once.
--   index_id text: name or id of the index; NULL is the session's index.
--   unit text: word, sentence or speaker, read from the video's asset, without an index. NULL: the parts of the index's transcript.
SELECT * FROM tl_transcript('https://example.com/tour.mp4', index_id => 'demo');

-- tl_filter(video, condition, start_sec => NULL, end_sec => NULL, index_id => NULL, vector => NULL)
-- Whether a statement is true of a video or a part of it; NULL when it cannot be decided.
--   gives boolean
--   video text: URL, path or id of a video, or id of an asset.
--   condition text: a statement that is true or false, such as "a person wears a helmet". NULL gives NULL.
--   vector vector: vector of this part of the video, as in a table of vectors. With it, a clip whose tl_similarity is not between two thresholds is decided without a call, once the first 200 answers about the condition have calibrated the thresholds (TL_PREFILTER_SAMPLE). NULL: every row is analyzed
SELECT tl_filter('https://example.com/tour.mp4', 'a person wears a helmet');

-- tl_classify(video, labels, start_sec => NULL, end_sec => NULL, index_id => NULL)
-- The one label that fits a video or a part of it best; NULL when none fits or it cannot be decided.
--   gives text
--   video text: URL, path or id of a video, or id of an asset.
--   labels list of text: 2 to 100 different texts. NULL gives NULL.
SELECT tl_classify('https://example.com/tour.mp4', (SELECT array_agg(v) FROM (VALUES ('cooking'), ('sport'), ('news')) t(v)));

-- tl_classify_multi(video, labels, start_sec => NULL, end_sec => NULL, index_id => NULL)
-- All labels that fit a video or a part of it, in sorted order; NULL when it cannot be decided.
--   gives list of text
--   video text: URL, path or id of a video, or id of an asset.
--   labels list of text: 2 to 100 different texts. NULL gives NULL.
SELECT tl_classify_multi('https://example.com/tour.mp4', (SELECT array_agg(v) FROM (VALUES ('indoors'), ('machines'), ('people')) t(v)));

-- tl_score(video, what, start_sec => NULL, end_sec => NULL, index_id => NULL)
-- Rate a video or a part of it, 0 to 1; NULL when it cannot be decided.
--   gives double
--   video text: URL, path or id of a video, or id of an asset.
--   what text: what to rate, such as "how crowded the place is". NULL gives NULL.
SELECT tl_score('https://example.com/tour.mp4', 'how crowded the place is');

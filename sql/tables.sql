-- Printed by `tl-data docs`: change the declarations in tl_data/functions, not this file.
-- The listings of the API in DuckDB and Spark SQL. Spark also reads them by
-- spark.read.format('twelvelabs'), except tl_estimate.

-- tl_estimate(function_name, videos, arguments => NULL, moments => NULL)
-- The maximum cost of calls of a function, as one row. No paid call is made.
--   rows of function_name text, distinct_rows bigint, reused bigint, calls bigint, video_minutes double, price double, currency text, unknown_length bigint, prefilter_calls_min bigint, prefilter_calls bigint, prefilter_price_min double, prefilter_price double
--   function_name text: name in the catalog, such as summarize or tl_summarize.
--   videos list of text: values of the function's first argument other than index_id: videos, texts or images.
--   arguments text: JSON object of further arguments, such as {"index_id": "demo", "prompt": "..."}.
--   moments text: JSON list of objects with further arguments of each value of videos, in the same order, such as [{"start_sec": 0, "end_sec": 6, "vector": [0.1, 0.2]}].
SELECT * FROM tl_estimate('summarize', (SELECT array_agg(v) FROM (VALUES ('https://example.com/tour.mp4')) t(v)));

-- tl_indexes(index_name => NULL, model_family => NULL, created_at => NULL, updated_at => NULL)
-- The indexes of the account, newest first.
--   rows of index_id text, index_name text, models list of text, video_count bigint, total_duration_sec double, created_at timestamp, updated_at timestamp, expires_at timestamp
--   index_name text: only the index of this name.
--   model_family text: only indexes with a model of this family: marengo, pegasus.
--   created_at text: only those created at or after this time (RFC 3339).
--   updated_at text: only those changed at or after this time (RFC 3339).
SELECT * FROM tl_indexes();

-- tl_videos(index_id => NULL, filename => NULL, created_at => NULL, updated_at => NULL, metadata_filter => NULL)
-- The ready videos of an index, newest first.
--   rows of video_id text, index_id text, filename text, duration_sec double, width bigint, height bigint, fps double, size_bytes bigint, user_metadata text, created_at timestamp, updated_at timestamp, indexed_at timestamp
--   index_id text: name or id of the index; NULL is the session's index.
--   filename text: only videos of this file name.
--   created_at text: only those created at or after this time (RFC 3339).
--   updated_at text: only those changed at or after this time (RFC 3339).
--   metadata_filter text: JSON object of system or user metadata, such as {"team": "news", "width": 1280}.
SELECT * FROM tl_videos(index_id => 'demo');

-- tl_tasks(index_id => NULL, status => NULL, created_at => NULL, updated_at => NULL)
-- The indexing tasks of the account, newest first.
--   rows of task_id text, index_id text, video_id text, status text, filename text, duration_sec double, created_at timestamp, updated_at timestamp
--   index_id text: name or id of an index; NULL is all of them.
--   status list of text: only these: validating, pending, queued, indexing, ready, failed.
--   created_at text: only those created at or after this time (RFC 3339).
--   updated_at text: only those changed at or after this time (RFC 3339).
SELECT * FROM tl_tasks(index_id => 'demo');

-- tl_embed_tasks(status => NULL, started_at => NULL, ended_at => NULL)
-- The embedding tasks of the account, newest first; by default those of the last seven days.
--   rows of task_id text, model_name text, status text, created_at timestamp
--   status text: only these: processing, ready, failed.
--   started_at text: only those created at or after this time (RFC 3339).
--   ended_at text: only those created at or before this time (RFC 3339).
SELECT * FROM tl_embed_tasks();

-- tl_assets(asset_types => NULL, filename => NULL)
-- The uploaded files of the account, newest first.
--   rows of asset_id text, status text, method text, filename text, file_type text, duration_sec double, size_bytes bigint, user_metadata text, created_at timestamp
--   asset_types list of text: only these: video, audio, image, document.
--   filename text: only those whose name contains this, ignoring case.
SELECT * FROM tl_assets();

-- tl_entities(collection_id => NULL, name => NULL)
-- The entities of the account: people with their pictures. A search text refers to one as `<@entity_id>`.
--   rows of entity_id text, collection_id text, collection_name text, name text, description text, status text, asset_ids list of text, metadata text, created_at timestamp, updated_at timestamp
--   collection_id text: only those of this collection.
--   name text: only those of this name.
SELECT * FROM tl_entities();

-- tl_analyze_tasks(status => NULL, asset_id => NULL, video_url => NULL, analysis_mode => NULL)
-- The analysis tasks of the account, newest first; `custom_id` is the ledger's key.
--   rows of task_id text, status text, custom_id text, analysis_mode text, video_url text, asset_id text, duration_sec double, prompt text, error_code text, error_message text, created_at timestamp, completed_at timestamp
--   status text: only these: queued, pending, processing, ready, failed, canceled.
--   asset_id text: only those about this asset.
--   video_url text: only those about this URL, exactly as it was sent.
--   analysis_mode text: general or time_based_metadata.
SELECT * FROM tl_analyze_tasks();

-- tl_files(place)
-- The video files of a folder or a bucket: one row per file, whose `video` column functions accept.
--   rows of video text, size_bytes bigint, modified_at timestamp, etag text
--   place text: a folder, `s3://`, `gs://`, `az://` or `abfss://` with bucket and prefix, or a pattern.
SELECT * FROM tl_files('s3://bucket/videos/**/*.mp4');

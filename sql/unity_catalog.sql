-- Printed by `tl-data docs`: change the declarations in tl_data/functions, not this file.
-- The functions as functions of Unity Catalog: they work in SQL warehouses and serverless notebooks, for
-- everybody with EXECUTE on them, without `tl_data.register`. They need Databricks Runtime 16.3, or a pro or
-- serverless SQL warehouse. Not run on Databricks: handlers and SQL functions are tested on Apache Spark.
--
-- Before you run it in the SQL editor or a notebook:
--   1. Choose a catalog and a schema:  USE CATALOG main; USE SCHEMA video;
--   2. Keep the key as a secret:       databricks secrets create-scope tl_data
--                                      databricks secrets put-secret tl_data api_key
--   3. Set the four functions below. The ledger must be an address that all sandboxes reach, such as s3://
--      with credentials in its environment. A folder is lost with its sandbox; then a retry pays again.
--
-- Grant EXECUTE on the functions that people call, one by one:
--   GRANT EXECUTE ON FUNCTION tl_search TO `analysts`;
-- Never grant it on the schema: that includes tl_api_key, which returns the key, and the functions whose
-- names begin with `_`, which take any budget.
--
-- The guard counts what one stream of rows may cost. A query with many tasks has as many streams: keep the
-- budget low, or use the functions of `tl_data.register(spark)`, whose guard counts the statement.

CREATE OR REPLACE FUNCTION tl_api_key() RETURNS STRING RETURN secret('tl_data', 'api_key');
CREATE OR REPLACE FUNCTION tl_base_url() RETURNS STRING RETURN NULL;
CREATE OR REPLACE FUNCTION tl_ledger() RETURNS STRING RETURN 's3://your-bucket/tl-data/ledger';
CREATE OR REPLACE FUNCTION tl_budget() RETURNS DOUBLE RETURN 10D;

CREATE OR REPLACE FUNCTION _tl_agg(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `texts` STRING, `instruction` STRING, `max_tokens` BIGINT)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("agg", batches)
$$;

CREATE OR REPLACE FUNCTION tl_agg(`texts` ARRAY<STRING>, `instruction` STRING, `max_tokens` BIGINT DEFAULT 1024)
RETURNS STRING
COMMENT 'Write one text from the texts of a group, with your own language model.'
RETURN from_json(_tl_agg(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), to_json(`texts`), `instruction`, `max_tokens`), 'STRUCT<`value`: STRING>').value;

CREATE OR REPLACE FUNCTION try_tl_agg(`texts` ARRAY<STRING>, `instruction` STRING, `max_tokens` BIGINT DEFAULT 1024)
RETURNS STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Write one text from the texts of a group, with your own language model.'
RETURN from_json(_tl_agg(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), to_json(`texts`), `instruction`, `max_tokens`), 'STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_summarize(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `prompt` STRING, `index_id` STRING, `temperature` DOUBLE, `max_tokens` BIGINT, `start_sec` DOUBLE, `end_sec` DOUBLE)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("summarize", batches)
$$;

CREATE OR REPLACE FUNCTION tl_summarize(`video` STRING, `prompt` STRING DEFAULT NULL, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL)
RETURNS STRING
COMMENT 'Summarize a video as text.'
RETURN from_json(_tl_summarize(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`), 'STRUCT<`value`: STRING>').value;

CREATE OR REPLACE FUNCTION try_tl_summarize(`video` STRING, `prompt` STRING DEFAULT NULL, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL)
RETURNS STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Summarize a video as text.'
RETURN from_json(_tl_summarize(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`), 'STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_chapters(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `prompt` STRING, `index_id` STRING, `temperature` DOUBLE, `max_tokens` BIGINT, `start_sec` DOUBLE, `end_sec` DOUBLE)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("chapters", batches)
$$;

CREATE OR REPLACE FUNCTION tl_chapters(`video` STRING, `prompt` STRING DEFAULT NULL, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL)
RETURNS TABLE (`chapter_number` BIGINT, `start_sec` DOUBLE, `end_sec` DOUBLE, `title` STRING, `summary` STRING)
COMMENT 'The chapters of a video, in order, with titles and summaries.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_chapters(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`), 'STRUCT<`value`: ARRAY<STRUCT<`chapter_number`: BIGINT, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `title`: STRING, `summary`: STRING>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_chapters(`video` STRING, `prompt` STRING DEFAULT NULL, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`chapter_number`: BIGINT, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `title`: STRING, `summary`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The chapters of a video, in order, with titles and summaries.'
RETURN from_json(_tl_chapters(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`), 'STRUCT<`value`: ARRAY<STRUCT<`chapter_number`: BIGINT, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `title`: STRING, `summary`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_highlights(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `prompt` STRING, `index_id` STRING, `temperature` DOUBLE, `max_tokens` BIGINT, `start_sec` DOUBLE, `end_sec` DOUBLE)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("highlights", batches)
$$;

CREATE OR REPLACE FUNCTION tl_highlights(`video` STRING, `prompt` STRING DEFAULT NULL, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL)
RETURNS TABLE (`start_sec` DOUBLE, `end_sec` DOUBLE, `highlight` STRING, `summary` STRING)
COMMENT 'The most notable parts of a video.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_highlights(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`), 'STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `highlight`: STRING, `summary`: STRING>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_highlights(`video` STRING, `prompt` STRING DEFAULT NULL, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `highlight`: STRING, `summary`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The most notable parts of a video.'
RETURN from_json(_tl_highlights(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`), 'STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `highlight`: STRING, `summary`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_gist(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `index_id` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("gist", batches)
$$;

CREATE OR REPLACE FUNCTION tl_gist(`video` STRING, `index_id` STRING DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL)
RETURNS STRUCT<`title`: STRING, `topics`: ARRAY<STRING>, `hashtags`: ARRAY<STRING>>
COMMENT 'Title, topics and hashtags of a video.'
RETURN from_json(_tl_gist(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, `start_sec`, `end_sec`), 'STRUCT<`value`: STRUCT<`title`: STRING, `topics`: ARRAY<STRING>, `hashtags`: ARRAY<STRING>>>').value;

CREATE OR REPLACE FUNCTION try_tl_gist(`video` STRING, `index_id` STRING DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL)
RETURNS STRUCT<`value`: STRUCT<`title`: STRING, `topics`: ARRAY<STRING>, `hashtags`: ARRAY<STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Title, topics and hashtags of a video.'
RETURN from_json(_tl_gist(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, `start_sec`, `end_sec`), 'STRUCT<`value`: STRUCT<`title`: STRING, `topics`: ARRAY<STRING>, `hashtags`: ARRAY<STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_analyze(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `prompt` STRING, `index_id` STRING, `temperature` DOUBLE, `max_tokens` BIGINT, `start_sec` DOUBLE, `end_sec` DOUBLE, `images` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("analyze", batches)
$$;

CREATE OR REPLACE FUNCTION tl_analyze(`video` STRING, `prompt` STRING, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `images` ARRAY<STRING> DEFAULT NULL)
RETURNS STRING
COMMENT 'Answer a prompt about a video, as text.'
RETURN from_json(_tl_analyze(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`, to_json(`images`)), 'STRUCT<`value`: STRING>').value;

CREATE OR REPLACE FUNCTION try_tl_analyze(`video` STRING, `prompt` STRING, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `images` ARRAY<STRING> DEFAULT NULL)
RETURNS STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Answer a prompt about a video, as text.'
RETURN from_json(_tl_analyze(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`, to_json(`images`)), 'STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_extract(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `prompt` STRING, `json_schema` STRING, `index_id` STRING, `temperature` DOUBLE, `max_tokens` BIGINT, `start_sec` DOUBLE, `end_sec` DOUBLE, `images` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("extract", batches)
$$;

CREATE OR REPLACE FUNCTION tl_extract(`video` STRING, `prompt` STRING, `json_schema` STRING, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `images` ARRAY<STRING> DEFAULT NULL)
RETURNS STRING
COMMENT 'Answer a prompt about a video as JSON that conforms to a schema.'
RETURN from_json(_tl_extract(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `json_schema`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`, to_json(`images`)), 'STRUCT<`value`: STRING>').value;

CREATE OR REPLACE FUNCTION try_tl_extract(`video` STRING, `prompt` STRING, `json_schema` STRING, `index_id` STRING DEFAULT NULL, `temperature` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `images` ARRAY<STRING> DEFAULT NULL)
RETURNS STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Answer a prompt about a video as JSON that conforms to a schema.'
RETURN from_json(_tl_extract(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `prompt`, `json_schema`, `index_id`, `temperature`, `max_tokens`, `start_sec`, `end_sec`, to_json(`images`)), 'STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_segments(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `definitions` STRING, `index_id` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE, `min_segment_sec` DOUBLE, `max_segment_sec` DOUBLE, `max_tokens` BIGINT)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("segments", batches)
$$;

CREATE OR REPLACE FUNCTION tl_segments(`video` STRING, `definitions` STRING, `index_id` STRING DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `min_segment_sec` DOUBLE DEFAULT NULL, `max_segment_sec` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL)
RETURNS TABLE (`definition` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE, `fields` STRING)
COMMENT 'The segments of a video that match definitions: one row per segment, with its fields as JSON.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_segments(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `definitions`, `index_id`, `start_sec`, `end_sec`, `min_segment_sec`, `max_segment_sec`, `max_tokens`), 'STRUCT<`value`: ARRAY<STRUCT<`definition`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `fields`: STRING>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_segments(`video` STRING, `definitions` STRING, `index_id` STRING DEFAULT NULL, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `min_segment_sec` DOUBLE DEFAULT NULL, `max_segment_sec` DOUBLE DEFAULT NULL, `max_tokens` BIGINT DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`definition`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `fields`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The segments of a video that match definitions: one row per segment, with its fields as JSON.'
RETURN from_json(_tl_segments(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `definitions`, `index_id`, `start_sec`, `end_sec`, `min_segment_sec`, `max_segment_sec`, `max_tokens`), 'STRUCT<`value`: ARRAY<STRUCT<`definition`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `fields`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_search(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `index_id` STRING, `query_text` STRING, `max_hits` BIGINT, `search_options` STRING, `filter` STRING, `operator` STRING, `group_by` STRING, `threshold` STRING, `adjust_confidence_level` DOUBLE, `sort_option` STRING, `page_limit` BIGINT, `include_user_metadata` BOOLEAN, `transcription_options` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("search", batches)
$$;

CREATE OR REPLACE FUNCTION tl_search(`index_id` STRING, `query_text` STRING, `max_hits` BIGINT DEFAULT 10, `search_options` ARRAY<STRING> DEFAULT NULL, `filter` STRING DEFAULT NULL, `operator` STRING DEFAULT NULL, `group_by` STRING DEFAULT NULL, `threshold` STRING DEFAULT NULL, `adjust_confidence_level` DOUBLE DEFAULT NULL, `sort_option` STRING DEFAULT NULL, `page_limit` BIGINT DEFAULT NULL, `include_user_metadata` BOOLEAN DEFAULT NULL, `transcription_options` ARRAY<STRING> DEFAULT NULL)
RETURNS TABLE (`video_id` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE, `score` DOUBLE, `rank` BIGINT, `confidence` STRING, `thumbnail_url` STRING, `transcription` STRING, `user_metadata` STRING)
COMMENT 'Search an index by words: one row per matching clip, best first.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_search(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `index_id`, `query_text`, `max_hits`, to_json(`search_options`), `filter`, `operator`, `group_by`, `threshold`, `adjust_confidence_level`, `sort_option`, `page_limit`, `include_user_metadata`, to_json(`transcription_options`)), 'STRUCT<`value`: ARRAY<STRUCT<`video_id`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `score`: DOUBLE, `rank`: BIGINT, `confidence`: STRING, `thumbnail_url`: STRING, `transcription`: STRING, `user_metadata`: STRING>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_search(`index_id` STRING, `query_text` STRING, `max_hits` BIGINT DEFAULT 10, `search_options` ARRAY<STRING> DEFAULT NULL, `filter` STRING DEFAULT NULL, `operator` STRING DEFAULT NULL, `group_by` STRING DEFAULT NULL, `threshold` STRING DEFAULT NULL, `adjust_confidence_level` DOUBLE DEFAULT NULL, `sort_option` STRING DEFAULT NULL, `page_limit` BIGINT DEFAULT NULL, `include_user_metadata` BOOLEAN DEFAULT NULL, `transcription_options` ARRAY<STRING> DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`video_id`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `score`: DOUBLE, `rank`: BIGINT, `confidence`: STRING, `thumbnail_url`: STRING, `transcription`: STRING, `user_metadata`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Search an index by words: one row per matching clip, best first.'
RETURN from_json(_tl_search(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `index_id`, `query_text`, `max_hits`, to_json(`search_options`), `filter`, `operator`, `group_by`, `threshold`, `adjust_confidence_level`, `sort_option`, `page_limit`, `include_user_metadata`, to_json(`transcription_options`)), 'STRUCT<`value`: ARRAY<STRUCT<`video_id`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `score`: DOUBLE, `rank`: BIGINT, `confidence`: STRING, `thumbnail_url`: STRING, `transcription`: STRING, `user_metadata`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_search_by_image(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `index_id` STRING, `image` STRING, `query_text` STRING, `max_hits` BIGINT, `search_options` STRING, `filter` STRING, `operator` STRING, `group_by` STRING, `threshold` STRING, `adjust_confidence_level` DOUBLE, `sort_option` STRING, `page_limit` BIGINT, `include_user_metadata` BOOLEAN, `transcription_options` STRING, `images` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("search_by_image", batches)
$$;

CREATE OR REPLACE FUNCTION tl_search_by_image(`index_id` STRING, `image` STRING, `query_text` STRING DEFAULT NULL, `max_hits` BIGINT DEFAULT 10, `search_options` ARRAY<STRING> DEFAULT NULL, `filter` STRING DEFAULT NULL, `operator` STRING DEFAULT NULL, `group_by` STRING DEFAULT NULL, `threshold` STRING DEFAULT NULL, `adjust_confidence_level` DOUBLE DEFAULT NULL, `sort_option` STRING DEFAULT NULL, `page_limit` BIGINT DEFAULT NULL, `include_user_metadata` BOOLEAN DEFAULT NULL, `transcription_options` ARRAY<STRING> DEFAULT NULL, `images` ARRAY<STRING> DEFAULT NULL)
RETURNS TABLE (`video_id` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE, `score` DOUBLE, `rank` BIGINT, `confidence` STRING, `thumbnail_url` STRING, `transcription` STRING, `user_metadata` STRING)
COMMENT 'Search an index by a picture: one row per matching clip, best first.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_search_by_image(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `index_id`, `image`, `query_text`, `max_hits`, to_json(`search_options`), `filter`, `operator`, `group_by`, `threshold`, `adjust_confidence_level`, `sort_option`, `page_limit`, `include_user_metadata`, to_json(`transcription_options`), to_json(`images`)), 'STRUCT<`value`: ARRAY<STRUCT<`video_id`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `score`: DOUBLE, `rank`: BIGINT, `confidence`: STRING, `thumbnail_url`: STRING, `transcription`: STRING, `user_metadata`: STRING>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_search_by_image(`index_id` STRING, `image` STRING, `query_text` STRING DEFAULT NULL, `max_hits` BIGINT DEFAULT 10, `search_options` ARRAY<STRING> DEFAULT NULL, `filter` STRING DEFAULT NULL, `operator` STRING DEFAULT NULL, `group_by` STRING DEFAULT NULL, `threshold` STRING DEFAULT NULL, `adjust_confidence_level` DOUBLE DEFAULT NULL, `sort_option` STRING DEFAULT NULL, `page_limit` BIGINT DEFAULT NULL, `include_user_metadata` BOOLEAN DEFAULT NULL, `transcription_options` ARRAY<STRING> DEFAULT NULL, `images` ARRAY<STRING> DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`video_id`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `score`: DOUBLE, `rank`: BIGINT, `confidence`: STRING, `thumbnail_url`: STRING, `transcription`: STRING, `user_metadata`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Search an index by a picture: one row per matching clip, best first.'
RETURN from_json(_tl_search_by_image(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `index_id`, `image`, `query_text`, `max_hits`, to_json(`search_options`), `filter`, `operator`, `group_by`, `threshold`, `adjust_confidence_level`, `sort_option`, `page_limit`, `include_user_metadata`, to_json(`transcription_options`), to_json(`images`)), 'STRUCT<`value`: ARRAY<STRUCT<`video_id`: STRING, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `score`: DOUBLE, `rank`: BIGINT, `confidence`: STRING, `thumbnail_url`: STRING, `transcription`: STRING, `user_metadata`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_embed_text(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `text` STRING, `text_truncate` STRING, `model_name` STRING, `embedding_dimension` BIGINT)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("embed_text", batches)
$$;

CREATE OR REPLACE FUNCTION tl_embed_text(`text` STRING, `text_truncate` STRING DEFAULT NULL, `model_name` STRING DEFAULT NULL, `embedding_dimension` BIGINT DEFAULT NULL)
RETURNS ARRAY<FLOAT>
COMMENT 'The vector of a text, comparable with those of clips.'
RETURN from_json(_tl_embed_text(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `text`, `text_truncate`, `model_name`, `embedding_dimension`), 'STRUCT<`value`: ARRAY<FLOAT>>').value;

CREATE OR REPLACE FUNCTION try_tl_embed_text(`text` STRING, `text_truncate` STRING DEFAULT NULL, `model_name` STRING DEFAULT NULL, `embedding_dimension` BIGINT DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<FLOAT>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The vector of a text, comparable with those of clips.'
RETURN from_json(_tl_embed_text(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `text`, `text_truncate`, `model_name`, `embedding_dimension`), 'STRUCT<`value`: ARRAY<FLOAT>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_embed_image(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `image` STRING, `model_name` STRING, `embedding_dimension` BIGINT)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("embed_image", batches)
$$;

CREATE OR REPLACE FUNCTION tl_embed_image(`image` STRING, `model_name` STRING DEFAULT NULL, `embedding_dimension` BIGINT DEFAULT NULL)
RETURNS ARRAY<FLOAT>
COMMENT 'The vector of a picture, comparable with those of clips.'
RETURN from_json(_tl_embed_image(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `image`, `model_name`, `embedding_dimension`), 'STRUCT<`value`: ARRAY<FLOAT>>').value;

CREATE OR REPLACE FUNCTION try_tl_embed_image(`image` STRING, `model_name` STRING DEFAULT NULL, `embedding_dimension` BIGINT DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<FLOAT>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The vector of a picture, comparable with those of clips.'
RETURN from_json(_tl_embed_image(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `image`, `model_name`, `embedding_dimension`), 'STRUCT<`value`: ARRAY<FLOAT>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_audio_vectors(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `audio` STRING, `audio_start_offset_sec` DOUBLE)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("audio_vectors", batches)
$$;

CREATE OR REPLACE FUNCTION tl_audio_vectors(`audio` STRING, `audio_start_offset_sec` DOUBLE DEFAULT NULL)
RETURNS TABLE (`start_sec` DOUBLE, `end_sec` DOUBLE, `embedding_scope` STRING, `embedding_option` STRING, `vector` ARRAY<FLOAT>)
COMMENT 'The vectors of an audio file, comparable with those of clips.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_audio_vectors(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `audio`, `audio_start_offset_sec`), 'STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `embedding_scope`: STRING, `embedding_option`: STRING, `vector`: ARRAY<FLOAT>>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_audio_vectors(`audio` STRING, `audio_start_offset_sec` DOUBLE DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `embedding_scope`: STRING, `embedding_option`: STRING, `vector`: ARRAY<FLOAT>>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The vectors of an audio file, comparable with those of clips.'
RETURN from_json(_tl_audio_vectors(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `audio`, `audio_start_offset_sec`), 'STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `embedding_scope`: STRING, `embedding_option`: STRING, `vector`: ARRAY<FLOAT>>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_video_vectors(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `index_id` STRING, `embedding_option` STRING, `video_embedding_scope` STRING, `video_clip_length` BIGINT, `video_start_offset_sec` DOUBLE, `video_end_offset_sec` DOUBLE)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("video_vectors", batches)
$$;

CREATE OR REPLACE FUNCTION tl_video_vectors(`video` STRING, `index_id` STRING DEFAULT NULL, `embedding_option` ARRAY<STRING> DEFAULT NULL, `video_embedding_scope` ARRAY<STRING> DEFAULT NULL, `video_clip_length` BIGINT DEFAULT NULL, `video_start_offset_sec` DOUBLE DEFAULT NULL, `video_end_offset_sec` DOUBLE DEFAULT NULL)
RETURNS TABLE (`start_sec` DOUBLE, `end_sec` DOUBLE, `embedding_scope` STRING, `embedding_option` STRING, `vector` ARRAY<FLOAT>)
COMMENT 'The vectors of a video: one row per clip (or whole video) and kind of evidence.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_video_vectors(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, to_json(`embedding_option`), to_json(`video_embedding_scope`), `video_clip_length`, `video_start_offset_sec`, `video_end_offset_sec`), 'STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `embedding_scope`: STRING, `embedding_option`: STRING, `vector`: ARRAY<FLOAT>>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_video_vectors(`video` STRING, `index_id` STRING DEFAULT NULL, `embedding_option` ARRAY<STRING> DEFAULT NULL, `video_embedding_scope` ARRAY<STRING> DEFAULT NULL, `video_clip_length` BIGINT DEFAULT NULL, `video_start_offset_sec` DOUBLE DEFAULT NULL, `video_end_offset_sec` DOUBLE DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `embedding_scope`: STRING, `embedding_option`: STRING, `vector`: ARRAY<FLOAT>>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The vectors of a video: one row per clip (or whole video) and kind of evidence.'
RETURN from_json(_tl_video_vectors(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, to_json(`embedding_option`), to_json(`video_embedding_scope`), `video_clip_length`, `video_start_offset_sec`, `video_end_offset_sec`), 'STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `embedding_scope`: STRING, `embedding_option`: STRING, `vector`: ARRAY<FLOAT>>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_index_video(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `index_id` STRING, `user_metadata` STRING, `enable_video_stream` BOOLEAN)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("index_video", batches)
$$;

CREATE OR REPLACE FUNCTION tl_index_video(`video` STRING, `index_id` STRING DEFAULT NULL, `user_metadata` STRING DEFAULT NULL, `enable_video_stream` BOOLEAN DEFAULT NULL)
RETURNS STRUCT<`video_id`: STRING, `index_id`: STRING, `task_id`: STRING, `status`: STRING, `duration_sec`: DOUBLE, `width`: BIGINT, `height`: BIGINT, `fps`: DOUBLE, `size_bytes`: BIGINT, `asset_id`: STRING>
COMMENT 'Index a video once and return its record.'
RETURN from_json(_tl_index_video(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, `user_metadata`, `enable_video_stream`), 'STRUCT<`value`: STRUCT<`video_id`: STRING, `index_id`: STRING, `task_id`: STRING, `status`: STRING, `duration_sec`: DOUBLE, `width`: BIGINT, `height`: BIGINT, `fps`: DOUBLE, `size_bytes`: BIGINT, `asset_id`: STRING>>').value;

CREATE OR REPLACE FUNCTION try_tl_index_video(`video` STRING, `index_id` STRING DEFAULT NULL, `user_metadata` STRING DEFAULT NULL, `enable_video_stream` BOOLEAN DEFAULT NULL)
RETURNS STRUCT<`value`: STRUCT<`video_id`: STRING, `index_id`: STRING, `task_id`: STRING, `status`: STRING, `duration_sec`: DOUBLE, `width`: BIGINT, `height`: BIGINT, `fps`: DOUBLE, `size_bytes`: BIGINT, `asset_id`: STRING>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Index a video once and return its record.'
RETURN from_json(_tl_index_video(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, `user_metadata`, `enable_video_stream`), 'STRUCT<`value`: STRUCT<`video_id`: STRING, `index_id`: STRING, `task_id`: STRING, `status`: STRING, `duration_sec`: DOUBLE, `width`: BIGINT, `height`: BIGINT, `fps`: DOUBLE, `size_bytes`: BIGINT, `asset_id`: STRING>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_clips(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `index_id` STRING, `embedding_option` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("clips", batches)
$$;

CREATE OR REPLACE FUNCTION tl_clips(`video` STRING, `index_id` STRING DEFAULT NULL, `embedding_option` STRING DEFAULT NULL)
RETURNS TABLE (`clip_number` BIGINT, `start_sec` DOUBLE, `end_sec` DOUBLE, `transcription` STRING, `thumbnail_url` STRING, `vector` ARRAY<FLOAT>)
COMMENT 'The clips of a video: times, speech, thumbnail and vector.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_clips(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, `embedding_option`), 'STRUCT<`value`: ARRAY<STRUCT<`clip_number`: BIGINT, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `transcription`: STRING, `thumbnail_url`: STRING, `vector`: ARRAY<FLOAT>>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_clips(`video` STRING, `index_id` STRING DEFAULT NULL, `embedding_option` STRING DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`clip_number`: BIGINT, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `transcription`: STRING, `thumbnail_url`: STRING, `vector`: ARRAY<FLOAT>>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The clips of a video: times, speech, thumbnail and vector.'
RETURN from_json(_tl_clips(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, `embedding_option`), 'STRUCT<`value`: ARRAY<STRUCT<`clip_number`: BIGINT, `start_sec`: DOUBLE, `end_sec`: DOUBLE, `transcription`: STRING, `thumbnail_url`: STRING, `vector`: ARRAY<FLOAT>>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_transcript(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `index_id` STRING, `unit` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("transcript", batches)
$$;

CREATE OR REPLACE FUNCTION tl_transcript(`video` STRING, `index_id` STRING DEFAULT NULL, `unit` STRING DEFAULT NULL)
RETURNS TABLE (`start_sec` DOUBLE, `end_sec` DOUBLE, `text` STRING, `speaker` STRING)
COMMENT 'The spoken words of a video, with times; with `unit => ''speaker''`, also the speakers.'
RETURN SELECT inline(answer) FROM (SELECT from_json(_tl_transcript(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, `unit`), 'STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `text`: STRING, `speaker`: STRING>>>').value AS answer);

CREATE OR REPLACE FUNCTION try_tl_transcript(`video` STRING, `index_id` STRING DEFAULT NULL, `unit` STRING DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `text`: STRING, `speaker`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The spoken words of a video, with times; with `unit => ''speaker''`, also the speakers.'
RETURN from_json(_tl_transcript(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `index_id`, `unit`), 'STRUCT<`value`: ARRAY<STRUCT<`start_sec`: DOUBLE, `end_sec`: DOUBLE, `text`: STRING, `speaker`: STRING>>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_filter(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `condition` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE, `index_id` STRING, `vector` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("filter", batches)
$$;

CREATE OR REPLACE FUNCTION tl_filter(`video` STRING, `condition` STRING, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `index_id` STRING DEFAULT NULL, `vector` ARRAY<FLOAT> DEFAULT NULL)
RETURNS BOOLEAN
COMMENT 'Whether a statement is true of a video or a part of it; NULL when it cannot be decided.'
RETURN from_json(_tl_filter(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `condition`, `start_sec`, `end_sec`, `index_id`, to_json(`vector`)), 'STRUCT<`value`: BOOLEAN>').value;

CREATE OR REPLACE FUNCTION try_tl_filter(`video` STRING, `condition` STRING, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `index_id` STRING DEFAULT NULL, `vector` ARRAY<FLOAT> DEFAULT NULL)
RETURNS STRUCT<`value`: BOOLEAN, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Whether a statement is true of a video or a part of it; NULL when it cannot be decided.'
RETURN from_json(_tl_filter(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `condition`, `start_sec`, `end_sec`, `index_id`, to_json(`vector`)), 'STRUCT<`value`: BOOLEAN, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_classify(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `labels` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE, `index_id` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("classify", batches)
$$;

CREATE OR REPLACE FUNCTION tl_classify(`video` STRING, `labels` ARRAY<STRING>, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `index_id` STRING DEFAULT NULL)
RETURNS STRING
COMMENT 'The one label that fits a video or a part of it best; NULL when none fits or it cannot be decided.'
RETURN from_json(_tl_classify(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, to_json(`labels`), `start_sec`, `end_sec`, `index_id`), 'STRUCT<`value`: STRING>').value;

CREATE OR REPLACE FUNCTION try_tl_classify(`video` STRING, `labels` ARRAY<STRING>, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `index_id` STRING DEFAULT NULL)
RETURNS STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'The one label that fits a video or a part of it best; NULL when none fits or it cannot be decided.'
RETURN from_json(_tl_classify(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, to_json(`labels`), `start_sec`, `end_sec`, `index_id`), 'STRUCT<`value`: STRING, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_classify_multi(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `labels` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE, `index_id` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("classify_multi", batches)
$$;

CREATE OR REPLACE FUNCTION tl_classify_multi(`video` STRING, `labels` ARRAY<STRING>, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `index_id` STRING DEFAULT NULL)
RETURNS ARRAY<STRING>
COMMENT 'All labels that fit a video or a part of it, in sorted order; NULL when it cannot be decided.'
RETURN from_json(_tl_classify_multi(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, to_json(`labels`), `start_sec`, `end_sec`, `index_id`), 'STRUCT<`value`: ARRAY<STRING>>').value;

CREATE OR REPLACE FUNCTION try_tl_classify_multi(`video` STRING, `labels` ARRAY<STRING>, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `index_id` STRING DEFAULT NULL)
RETURNS STRUCT<`value`: ARRAY<STRING>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'All labels that fit a video or a part of it, in sorted order; NULL when it cannot be decided.'
RETURN from_json(_tl_classify_multi(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, to_json(`labels`), `start_sec`, `end_sec`, `index_id`), 'STRUCT<`value`: ARRAY<STRING>, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');


CREATE OR REPLACE FUNCTION _tl_score(`attempt` BOOLEAN, `api_key` STRING, `base_url` STRING, `ledger` STRING, `budget` DOUBLE, `video` STRING, `what` STRING, `start_sec` DOUBLE, `end_sec` DOUBLE, `index_id` STRING)
RETURNS STRING
LANGUAGE PYTHON
NOT DETERMINISTIC
PARAMETER STYLE PANDAS
HANDLER 'handler'
ENVIRONMENT (dependencies = '["tl_data==0.1.0", "pandas"]', environment_version = 'None')
AS $$
from collections.abc import Iterator

import pandas as pd

from tl_data.spark.unity import answers


def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
    return answers("score", batches)
$$;

CREATE OR REPLACE FUNCTION tl_score(`video` STRING, `what` STRING, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `index_id` STRING DEFAULT NULL)
RETURNS DOUBLE
COMMENT 'Rate a video or a part of it, 0 to 1; NULL when it cannot be decided.'
RETURN from_json(_tl_score(false, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `what`, `start_sec`, `end_sec`, `index_id`), 'STRUCT<`value`: DOUBLE>').value;

CREATE OR REPLACE FUNCTION try_tl_score(`video` STRING, `what` STRING, `start_sec` DOUBLE DEFAULT NULL, `end_sec` DOUBLE DEFAULT NULL, `index_id` STRING DEFAULT NULL)
RETURNS STRUCT<`value`: DOUBLE, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>
COMMENT 'Rate a video or a part of it, 0 to 1; NULL when it cannot be decided.'
RETURN from_json(_tl_score(true, tl_api_key(), tl_base_url(), tl_ledger(), tl_budget(), `video`, `what`, `start_sec`, `end_sec`, `index_id`), 'STRUCT<`value`: DOUBLE, `error`: STRUCT<`class`: STRING, `code`: STRING, `http_status`: BIGINT, `message`: STRING, `retryable`: BOOLEAN, `request_id`: STRING>, `usage`: STRUCT<`calls`: BIGINT, `video_minutes`: DOUBLE, `input_tokens`: BIGINT, `output_tokens`: BIGINT, `reused`: BIGINT>, `provenance`: STRUCT<`model`: STRING, `api_version`: STRING, `task_id`: STRING, `content_key`: STRING, `at`: TIMESTAMP>>');

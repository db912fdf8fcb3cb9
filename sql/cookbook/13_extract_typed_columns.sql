-- Facts by JSON schema into typed columns. tl_json reads a field of JSON text in DuckDB and Spark.
WITH facts AS (
    SELECT v.url, tl_extract(v.video_id, 'What is the title, and how long is the video?',
        '{"type": "object", "properties": {"title": {"type": "string"}, "duration": {"type": "number"}}}',
        index_id => 'demo') AS json
    FROM videos v
)
SELECT url, tl_json(json, '$.title') AS title, CAST(tl_json(json, '$.duration') AS DOUBLE) AS duration_sec
FROM facts
ORDER BY url;

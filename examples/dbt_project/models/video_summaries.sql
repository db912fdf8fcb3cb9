{{ config(materialized="incremental", unique_key="video_id") }}
SELECT s.video_id, s.tried.value AS summary, s.tried.error.message AS error_message
FROM (
    SELECT video_id, try_tl_summarize(video_id, prompt => 'In one sentence: what is shown?') AS tried
    FROM {{ ref("videos") }}
    {% if is_incremental() %}
    WHERE video_id NOT IN (SELECT video_id FROM {{ this }} WHERE summary IS NOT NULL)
    {% endif %}
) s

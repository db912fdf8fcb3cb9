{{ config(materialized="incremental", unique_key="video_id") }}
SELECT video_id, tl_summarize(video_id, prompt => 'In one sentence: what is shown?') AS summary
FROM {{ ref("videos") }}
{% if is_incremental() %}
WHERE video_id NOT IN (SELECT video_id FROM {{ this }})
{% endif %}

SELECT id, url, error_code, error_message FROM {{ ref("video_attempts") }} WHERE video_id IS NULL

SELECT id, url, video_id, duration_sec FROM {{ ref("video_attempts") }} WHERE video_id IS NOT NULL

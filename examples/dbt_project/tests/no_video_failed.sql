-- A warning: the other videos are built.
{{ config(severity="warn") }}
SELECT * FROM {{ ref("video_errors") }}

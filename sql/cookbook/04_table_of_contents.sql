-- Chapters as a table of contents, with times a reader can click or type.
SELECT v.url, c.chapter_number,
       concat(lpad(CAST(CAST(floor(c.start_sec / 60) AS INT) AS STRING), 2, '0'), ':',
              lpad(CAST(CAST(floor(c.start_sec) AS INT) % 60 AS STRING), 2, '0')) AS starts,
       c.title, c.summary
FROM chapters c JOIN videos v ON v.video_id = c.video_id
ORDER BY v.url, c.chapter_number;

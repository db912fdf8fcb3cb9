-- What did not get in, by cause: what to fix, and what the next run tries again by itself.
SELECT e.class, e.code, e.retryable, count(*) AS videos, min(e.message) AS for_instance
FROM errors e
GROUP BY e.class, e.code, e.retryable
ORDER BY videos DESC, e.class, e.code;

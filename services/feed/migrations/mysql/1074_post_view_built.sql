-- Without posts there is nothing to build.
INSERT INTO post_view_build (id, built_until, built_at)
SELECT 1, 0, CASE WHEN EXISTS (SELECT 1 FROM post) THEN NULL ELSE 0 END

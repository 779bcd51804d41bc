UPDATE post SET likes = (SELECT COUNT(*) FROM post_like l WHERE l.post_id = post.id)
WHERE id IN (SELECT post_id FROM post_like);

UPDATE post JOIN (SELECT post_id, COUNT(*) AS likes FROM post_like GROUP BY post_id) counted ON counted.post_id = post.id
SET post.likes = counted.likes

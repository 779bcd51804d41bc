ALTER TABLE account ADD KEY account_made_looks (made_looks, account), ALGORITHM = INPLACE;

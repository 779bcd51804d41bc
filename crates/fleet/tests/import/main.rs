//! `fleet import spring`, from MariaDB and MongoDB into both engine sets.

mod accounts;
mod legacy;

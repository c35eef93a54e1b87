//! Files of impressions, in whatever format, as chunks of Arrow columns.

pub(crate) mod blocks;
pub(crate) mod chunk;
pub(crate) mod columns;
mod csv;
mod damage;
pub(crate) mod data_file;
pub(crate) mod files;
pub mod grouped;
pub(crate) mod list_format;
mod newlines;
pub(crate) mod parquet;
pub(crate) mod pieces;
pub(crate) mod source;
pub mod spool;

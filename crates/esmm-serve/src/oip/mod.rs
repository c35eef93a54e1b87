//! The Open Inference Protocol, version 2: the clients of KServe and Triton, over REST and gRPC.

mod binary;
pub(crate) mod grpc;
mod infer;
pub(crate) mod rest;
mod tensor;

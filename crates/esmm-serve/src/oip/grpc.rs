//! The gRPC side of the protocol.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray, UInt32Array,
    UInt64Array,
};
use tonic::{Code, Request, Response, Status};

use super::infer;
use super::rest::{EXTENSIONS, PLATFORM};
use super::tensor::{DataType, Tensor};
use crate::failure::Failure;
use crate::model::Loaded;
use crate::service::Service;

#[allow(
    clippy::enum_variant_names,
    clippy::pedantic,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "generated from proto/inference.proto"
)]
mod messages {
    tonic::include_proto!("inference");
}

use messages::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use messages::model_infer_request::InferInputTensor;
use messages::model_infer_response::InferOutputTensor;
use messages::model_metadata_response::TensorMetadata;
use messages::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};

/// Where its methods are.
pub(crate) const PATH: &str = "/inference.GRPCInferenceService/{method}";

/// The service for a router.
pub(crate) fn server(service: Arc<Service>) -> GrpcInferenceServiceServer<Inference> {
    let limit = service.limits.body;
    GrpcInferenceServiceServer::new(Inference { service }).max_decoding_message_size(limit)
}

/// The methods.
#[derive(Debug)]
pub(crate) struct Inference {
    service: Arc<Service>,
}

impl Inference {
    fn named(&self, name: &str, version: &str) -> Result<Arc<Loaded>, Status> {
        let loaded = self.service.model();
        let (own_name, own_version) = (&loaded.name, &loaded.version);
        if name != own_name || !(version.is_empty() || version == own_version) {
            return Err(Status::not_found(format!("the model here is `{own_name}`, version {own_version}")));
        }
        Ok(loaded)
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.service.is_ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let named = request.into_inner();
        let ready = self.named(&named.name, &named.version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "esmm-serve".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let named = request.into_inner();
        let loaded = self.named(&named.name, &named.version)?;
        let all = |tensors: Vec<infer::Described>| {
            let described = |tensor: infer::Described| TensorMetadata {
                name: tensor.name,
                datatype: tensor.datatype.to_owned(),
                shape: tensor.shape,
            };
            tensors.into_iter().map(described).collect()
        };
        Ok(Response::new(ModelMetadataResponse {
            name: loaded.name.clone(),
            versions: vec![loaded.version.clone()],
            platform: PLATFORM.to_owned(),
            inputs: all(infer::inputs(&loaded)),
            outputs: all(infer::outputs(&loaded)),
        }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let request = request.into_inner();
        self.named(&request.model_name, &request.model_version)?;
        let tensors = tensors(&request).map_err(Status::invalid_argument)?;
        let wanted: Vec<String> = request.outputs.into_iter().map(|output| output.name).collect();
        let candidates = infer::candidates(&tensors);
        let metrics = self.service.clone();
        let work = move |loaded: &Loaded, worker: &mut crate::rank::run::Worker| {
            let inferred = infer::infer(loaded, &tensors, &wanted, worker).map_err(Failure::bad)?;
            metrics.metrics.ranked(inferred.candidates, 0);
            metrics.metrics.looked_up(&inferred.counts);
            Ok((loaded.name.clone(), loaded.version.clone(), inferred))
        };
        self.service.admit(candidates).map_err(|failure| status(&failure))?;
        let computed = self.service.compute(candidates > infer::SHORT, work).await;
        let (model_name, model_version, inferred) = computed.map_err(|failure| status(&failure))?;
        let mut response =
            ModelInferResponse { model_name, model_version, id: request.id, ..ModelInferResponse::default() };
        for (name, values) in inferred.outputs {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            response.raw_output_contents.push(bytes);
            response.outputs.push(InferOutputTensor {
                name,
                datatype: DataType::Fp32.name().to_owned(),
                shape: vec![values.len() as i64],
                ..InferOutputTensor::default()
            });
        }
        Ok(Response::new(response))
    }
}

/// The inputs of a request, from their contents or from the raw bytes after them.
fn tensors(request: &ModelInferRequest) -> Result<Vec<Tensor>, String> {
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        return Err(format!("{} raw contents for {} inputs", raw.len(), request.inputs.len()));
    }
    let tensor = |(place, input): (usize, &InferInputTensor)| {
        let kind = DataType::parse(&input.name, &input.datatype)?;
        let values = match (raw.get(place), &input.contents) {
            (Some(bytes), _) => kind.read(&input.name, bytes)?,
            (None, Some(contents)) => typed(&input.name, kind, contents)?,
            (None, None) => return Err(format!("input `{}` has no contents", input.name)),
        };
        Ok(Tensor { name: input.name.clone(), shape: input.shape.clone(), values })
    };
    request.inputs.iter().enumerate().map(tensor).collect()
}

fn typed(input: &str, kind: DataType, contents: &InferTensorContents) -> Result<ArrayRef, String> {
    Ok(match kind {
        DataType::Bool => Arc::new(BooleanArray::from(contents.bool_contents.clone())),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => {
            Arc::new(Int32Array::from(contents.int_contents.clone()))
        }
        DataType::Int64 => Arc::new(Int64Array::from(contents.int64_contents.clone())),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => {
            Arc::new(UInt32Array::from(contents.uint_contents.clone()))
        }
        DataType::Uint64 => Arc::new(UInt64Array::from(contents.uint64_contents.clone())),
        DataType::Fp32 => Arc::new(Float32Array::from(contents.fp32_contents.clone())),
        DataType::Fp64 => Arc::new(Float64Array::from(contents.fp64_contents.clone())),
        DataType::Bytes => {
            let text = |bytes: &Vec<u8>| {
                let text = String::from_utf8(bytes.clone());
                text.map_err(|_| format!("input `{input}`: a text is not UTF-8"))
            };
            let texts = contents.bytes_contents.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            Arc::new(StringArray::from(texts))
        }
    })
}

fn status(failure: &Failure) -> Status {
    let code = match failure.status.as_u16() {
        503 => Code::Unavailable,
        413 => Code::ResourceExhausted,
        400..500 => Code::InvalidArgument,
        _ => Code::Internal,
    };
    Status::new(code, failure.message.clone())
}

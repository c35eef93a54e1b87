//! Products of all towers, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::{float, primitive};

/// See [`EsmmBackend::stacked_linear`](crate::EsmmBackend::stacked_linear).
pub fn stacked_linear<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> FloatTensor<B> {
    let (input, weight) = (float::<B, 3>(input), float::<B, 3>(weight));
    let bias = float::<B, 2>(bias).unsqueeze_dim(1);
    let [towers, inputs, outputs] = weight.dims();
    if input.dims()[0] == towers {
        return primitive(input.matmul(weight) + bias);
    }
    // All towers read the same input: one product with their weights side by side.
    let rows = input.dims()[1];
    let side_by_side = weight.swap_dims(0, 1).reshape([inputs, towers * outputs]);
    let product = input.squeeze_dim::<2>(0).matmul(side_by_side);
    primitive(product.reshape([rows, towers, outputs]).swap_dims(0, 1) + bias)
}

/// See [`EsmmBackend::stacked_linear_backward`](crate::EsmmBackend::stacked_linear_backward).
pub fn stacked_linear_backward<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let (input, weight, grad) = (float::<B, 3>(input), float::<B, 3>(weight), float::<B, 3>(grad));
    let bias_grad = primitive(grad.clone().sum_dim(1).squeeze_dim::<2>(1));
    let [towers, inputs, outputs] = weight.dims();
    if input.dims()[0] == towers {
        let input_grad = grad.clone().matmul(weight.transpose());
        return [primitive(input_grad), primitive(input.transpose().matmul(grad)), bias_grad];
    }
    let rows = input.dims()[1];
    let grad = grad.swap_dims(0, 1).reshape([rows, towers * outputs]);
    let side_by_side = weight.swap_dims(0, 1).reshape([inputs, towers * outputs]);
    let input_grad = grad.clone().matmul(side_by_side.transpose()).unsqueeze::<3>();
    let weight_grad = input.squeeze_dim::<2>(0).transpose().matmul(grad);
    let weight_grad = weight_grad.reshape([inputs, towers, outputs]).swap_dims(0, 1);
    [primitive(input_grad), primitive(weight_grad), bias_grad]
}

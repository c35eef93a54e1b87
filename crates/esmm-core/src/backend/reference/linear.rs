//! Matmuls of all towers, forward and backward.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// `x * W` of all towers. An input of one tower is read by all.
///
/// # Shapes
/// `input [1 or K, B, I]`, `weight [K, I, O]` to `[K, B, O]`.
pub(super) fn stacked_matmul<B: Backend>(input: Tensor<B, 3>, weight: Tensor<B, 3>) -> Tensor<B, 3> {
    let [towers, inputs, outputs] = weight.dims();
    if input.dims()[0] == towers {
        return input.matmul(weight);
    }
    // All towers read the same input: one matmul with their weights side by side.
    let rows = input.dims()[1];
    let side_by_side = weight.swap_dims(0, 1).reshape([inputs, towers * outputs]);
    let outputs_of_all = input.squeeze_dim::<2>(0).matmul(side_by_side);
    outputs_of_all.reshape([rows, towers, outputs]).swap_dims(0, 1)
}

/// Gradients of [`stacked_matmul`] with respect to input and weight.
pub(super) fn stacked_matmul_backward<B: Backend>(
    input: Tensor<B, 3>,
    weight: Tensor<B, 3>,
    grad: Tensor<B, 3>,
) -> [Tensor<B, 3>; 2] {
    let [towers, inputs, outputs] = weight.dims();
    if input.dims()[0] == towers {
        let input_grad = grad.clone().matmul(weight.transpose());
        return [input_grad, input.transpose().matmul(grad)];
    }
    let rows = input.dims()[1];
    let grad = grad.swap_dims(0, 1).reshape([rows, towers * outputs]);
    let side_by_side = weight.swap_dims(0, 1).reshape([inputs, towers * outputs]);
    let input_grad = grad.clone().matmul(side_by_side.transpose()).unsqueeze::<3>();
    let weight_grad = input.squeeze_dim::<2>(0).transpose().matmul(grad);
    [input_grad, weight_grad.reshape([inputs, towers, outputs]).swap_dims(0, 1)]
}

//! TensorBoard for any training on Burn: a metric logger for `SupervisedTraining`. Nothing here is about ESMM.
//!
//! ```sh
//! cargo run --example tensorboard_logger -- runs/ring
//! tensorboard --logdir runs/ring    # pip install tensorboard: Loss and Accuracy of train and valid
//! ```
//!
//! ```text
//! accuracy 0.89 on 1000 new points; now: tensorboard --logdir runs/ring
//! ```

use burn::backend::Autodiff;
use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig, loss::CrossEntropyLossConfig};
use burn::optim::AdamConfig;
use burn::tensor::{Int, Tensor, TensorData, activation::relu, backend::AutodiffBackend, backend::Backend};
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep};
use burn_ndarray::{NdArray, NdArrayDevice};
use esmm_train::tensorboard::TensorBoardMetricLogger;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Points, and 1 for those in the ring.
type Batch<B> = (Tensor<B, 2>, Tensor<B, 1, Int>);

#[derive(Module, Debug)]
struct Classifier<B: Backend> {
    hidden: Linear<B>,
    output: Linear<B>,
}

impl<B: Backend> Classifier<B> {
    fn classify(&self, (points, inside): Batch<B>) -> ClassificationOutput<B> {
        let output = self.output.forward(relu(self.hidden.forward(points)));
        let loss = CrossEntropyLossConfig::new().init(&output.device());
        ClassificationOutput::new(loss.forward(output.clone(), inside.clone()), output, inside)
    }
}

impl<B: AutodiffBackend> TrainStep for Classifier<B> {
    type Input = Batch<B>;
    type Output = ClassificationOutput<B>;

    fn step(&self, batch: Batch<B>) -> TrainOutput<Self::Output> {
        let item = self.classify(batch);
        TrainOutput::new(self, item.loss.backward(), item)
    }
}

impl<B: Backend> InferenceStep for Classifier<B> {
    type Input = Batch<B>;
    type Output = ClassificationOutput<B>;

    fn step(&self, batch: Batch<B>) -> Self::Output {
        self.classify(batch)
    }
}

struct Ring;

impl<B: Backend> Batcher<B, [f32; 2], Batch<B>> for Ring {
    fn batch(&self, points: Vec<[f32; 2]>, device: &B::Device) -> Batch<B> {
        let inside = points.iter().map(|[x, y]| i32::from((0.3..0.8).contains(&x.hypot(*y))));
        let inside = TensorData::from(inside.collect::<Vec<i32>>().as_slice());
        let points = TensorData::new(points.concat(), [points.len(), 2]);
        (Tensor::from_data(points, device), Tensor::from_data(inside, device))
    }
}

fn points(count: usize, seed: u64) -> Vec<[f32; 2]> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| [rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)]).collect()
}

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "runs/ring".to_owned());
    let device = NdArrayDevice::default();
    NdArray::<f32>::seed(&device, 1);
    let (hidden, output) = (LinearConfig::new(2, 64).init(&device), LinearConfig::new(64, 2).init(&device));
    let train = DataLoaderBuilder::<Autodiff<NdArray>, _, _>::new(Ring).batch_size(64).shuffle(1);
    let valid = DataLoaderBuilder::<NdArray, _, _>::new(Ring).batch_size(64);
    let train = train.build(InMemDataset::new(points(4000, 1)));
    let valid = valid.build(InMemDataset::new(points(1000, 2)));
    let training = SupervisedTraining::new(&folder, train, valid)
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .with_metric_logger(TensorBoardMetricLogger::new(&folder).every(5)) // all that TensorBoard needs
        .with_application_logger(None)
        .num_epochs(10);
    let model =
        training.launch(Learner::new(Classifier { hidden, output }, AdamConfig::new().init(), 1e-2)).model;

    let (points, truth): Batch<NdArray> = Ring.batch(points(1000, 3), &device);
    let guess: Tensor<NdArray, 1, Int> =
        model.classify((points, truth.clone())).output.argmax(1).reshape([-1]);
    let right = guess.equal(truth).int().sum().into_scalar() as f64 / 1000.0;
    println!("accuracy {right:.2} on 1000 new points; now: tensorboard --logdir {folder}");
}

//! Training, evaluation and prediction with ESMM.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

/// A renderer that writes down what a dashboard would show.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn record(&self, event: impl Debug) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(format!("{event:?}"));
    }

    pub fn events(&self) -> Vec<String> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.clone()
    }
}

impl MetricsRendererTraining for Recorder {
    fn update_train(&mut self, state: MetricState) {
        self.record(("train", state));
    }

    fn update_valid(&mut self, state: MetricState) {
        self.record(("valid", state));
    }
}

impl TrainingProgressLogger for Recorder {
    fn start(&mut self, epochs: usize, first: usize, items: Option<usize>, label: Option<&str>) {
        self.record(("start", epochs, first, items, label));
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        self.record(("start split", split, total_items));
    }

    fn update_split(&mut self, items_processed: usize) {
        self.record(("items", items_processed));
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.record(("epoch", epoch));
    }

    fn end_split(&mut self) {
        self.record("end split");
    }

    fn end(&mut self) {
        self.record("end");
    }

    fn log_event_training(&mut self, event: String) {
        self.record(event);
    }
}

impl MetricsRendererEvaluation for Recorder {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl EvaluationProgressLogger for Recorder {
    fn start_global_progress(&mut self, _total_tests: usize) {}
    fn start_test(&mut self, _name: &str, _total_items: usize) {}
    fn update_test_progress(&mut self, _items_processed: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRenderer for Recorder {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.record(definition);
    }
}

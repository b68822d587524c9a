//! The settings of an optimizer.

use clap::{Args, ValueEnum};
use serde::Serialize;

/// What makes the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerChoice {
    /// Adam: two values in f32 for each that is trained.
    Adam,
    /// Adam with weight decay apart from the gradient; as much.
    #[default]
    #[value(name = "adamw")]
    AdamW,
    /// RMSprop: one value in f32.
    #[value(name = "rmsprop")]
    RmsProp,
    /// Adam with both values in 8 bits: a quarter of the memory.
    #[value(name = "adam8bit")]
    Adam8bit,
    /// AdamW with both values in 8 bits.
    #[value(name = "adamw8bit")]
    AdamW8bit,
}

/// Where an optimizer's state is between two steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerStateChoice {
    /// On the device that trains.
    #[default]
    Device,
    /// In host memory; the same steps, and two copies at each.
    Host,
}

/// The optimizer, and where its state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args, Serialize)]
pub struct OptimizerSettings {
    /// What makes the steps. A resumed run may go on in 8 bits, but not back.
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        help_heading = "Memory",
        default_value_t
    )]
    pub optimizer: OptimizerChoice,
    /// Where the optimizer's state is between two steps.
    #[arg(
        long,
        value_enum,
        value_name = "PLACE",
        help_heading = "Memory",
        default_value_t
    )]
    pub optimizer_state: OptimizerStateChoice,
}

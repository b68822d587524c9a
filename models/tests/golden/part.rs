//! Parts of networks that cases fill by their own names, as if they were networks.

use burn::module::{Module, ModuleDisplay};
use burn_memopt_models::weights::StateDict;

use crate::harness::Case;
use crate::network;

/// A part whose parameters have the names they have within it.
#[derive(Module, Debug)]
struct Part<M: Module> {
    part: M,
}

impl<M: Module + ModuleDisplay> StateDict for Part<M> {
    fn state_dict_name(path: &str) -> String {
        let name = path.strip_prefix("part.");
        name.expect("every parameter is the part's").into()
    }
}

/// Fills the parameters of `part` as the case says.
pub fn filled<M: Module + ModuleDisplay>(part: M, case: &Case) -> M {
    network::filled(Part { part }, case).part
}

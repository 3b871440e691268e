//! The decision: a pure function of the world, the task and the action

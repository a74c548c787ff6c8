//! The planner, the image and the difference as the agent uses them: objects in, steps for the maps out.

mod conformance;
mod dsr;
mod image;
mod incremental;
mod services;
mod world;

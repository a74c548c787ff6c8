//! One BGP connection: its machine ([`fsm`]), its timers, what both OPENs agree on ([`agree`]).

pub mod agree;
pub mod event;
pub mod fsm;
pub mod timers;

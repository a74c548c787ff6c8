//! Whatever needs a Kubernetes API server: a real one, with its etcd, on loopback. `cargo xtask setup` makes both.
//!
//! All tests share one control plane and run one after the other, on this thread: they kill it in turn, and its
//! processes end with the thread that starts them.

mod agent;
mod clock;
mod definitions;
mod deploy;
mod faults;
mod full_maps;
mod lease;
mod nodes;
mod operator;
mod processes;
mod rights;
mod source;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use lab::kubernetes::{Assets, ControlPlane};
use libtest_mimic::{Arguments, Trial};
use stentor_tests::cluster::Api;

type Test = fn(&mut ControlPlane, &Api) -> Result<()>;

/// In this order: the later ones use what the earlier ones installed.
const TESTS: [(&str, Test); 31] = [
    (
        "deploy::manifests_of_the_chart_are_taken_to_the_last_field",
        deploy::manifests,
    ),
    (
        "processes::servers_end_with_the_thread_that_started_them",
        processes::nothing_is_left,
    ),
    (
        "source::a_kind_that_is_not_served_is_a_problem_and_no_obstacle",
        source::not_served,
    ),
    (
        "definitions::ours_are_established_without_a_warning",
        definitions::established,
    ),
    (
        "definitions::good_documents_are_taken_and_bad_ones_refused",
        definitions::good_and_bad,
    ),
    (
        "definitions::good_documents_of_kinds_not_read_are_taken_and_bad_ones_refused",
        definitions::good_and_bad_of_unread,
    ),
    (
        "definitions::what_a_policy_redirects_can_not_be_changed",
        definitions::immutable,
    ),
    (
        "source::objects_lead_to_the_same_plan_as_a_folder_of_them",
        source::same_as_folder,
    ),
    (
        "source::an_api_server_that_is_killed_takes_nothing_with_it",
        source::killed,
    ),
    ("source::an_agent_without_rights_says_so", source::forbidden),
    (
        "agent::addresses_and_routes_outlive_the_api_server",
        agent::outlives_the_server,
    ),
    (
        "lease::killed_cut_off_or_resigned_there_is_one_holder_at_a_time",
        lease::one_holder_at_a_time,
    ),
    (
        "operator::definitions_are_installed_and_upgraded_and_never_downgraded",
        operator::definitions,
    ),
    (
        "operator::services_get_addresses_conditions_and_events_and_a_restart_writes_nothing",
        operator::addresses,
    ),
    (
        "operator::pools_that_conflict_shrink_or_go_say_so_and_move_only_who_must",
        operator::pools,
    ),
    (
        "operator::pools_have_priorities_hold_back_and_retain",
        operator::pool_options,
    ),
    (
        "operator::one_of_two_replicas_acts_and_the_other_takes_over",
        operator::takes_over,
    ),
    (
        "operator::node_configs_follow_their_cluster_config_and_its_nodes_and_conditions_say_the_rest",
        operator::bgp,
    ),
    (
        "operator::services_of_nodes_get_their_addresses_and_lose_them",
        operator::node_ipam,
    ),
    (
        "operator::nodes_get_prefixes_for_their_pods_and_keep_them",
        operator::pod_prefixes,
    ),
    (
        "nodes::every_node_has_a_cilium_node_that_says_what_it_says",
        nodes::repeated,
    ),
    (
        "full_maps::a_service_that_does_not_fit_says_so_and_the_older_one_keeps_its_room",
        full_maps::said,
    ),
    (
        "rights::the_chart_grants_enough_and_no_more",
        rights::enough_and_no_more,
    ),
    (
        "rights::a_rule_that_is_missing_switches_off_what_needs_it_and_nothing_else",
        rights::one_missing,
    ),
    (
        "faults::an_operator_killed_in_the_middle_and_servers_under_the_next_one_move_nobody",
        faults::killed_in_the_middle,
    ),
    (
        "faults::a_history_that_was_forgotten_is_read_anew",
        faults::history_forgotten,
    ),
    (
        "faults::two_operators_at_once_give_no_address_twice",
        faults::two_at_once,
    ),
    (
        "faults::an_api_server_that_has_no_time_for_us_costs_nobody_what_he_has",
        faults::too_many_requests,
    ),
    (
        "clock::a_clock_that_is_set_resets_no_session_and_moves_no_address_and_no_lease",
        clock::set,
    ),
    (
        "agent::sessions_are_told_in_the_status_of_the_node_config",
        agent::reports,
    ),
    (
        "definitions::stock_ones_judge_the_same_documents_the_same",
        definitions::stock,
    ),
];

fn main() -> ExitCode {
    if let Some(ended) = lease::candidate() {
        return match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let assets = match Assets::find() {
        Ok(assets) => assets,
        Err(why) => {
            println!("skipped: {why}");
            println!("0 passed, 0 failed, {} skipped", TESTS.len());
            return ExitCode::SUCCESS;
        }
    };
    let control_plane = if arguments.list {
        None
    } else {
        match ControlPlane::start(&assets) {
            Ok(control_plane) => Some(control_plane),
            Err(error) => {
                println!("no control plane: {error}");
                return ExitCode::FAILURE;
            }
        }
    };
    let shared = Arc::new(Mutex::new(control_plane));
    let trial = |(name, test): (&str, Test)| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || {
            // A test that failed may have left it dead; the next one finds out.
            let mut held = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let control_plane = held.as_mut().ok_or("no control plane")?;
            let run = Api::new(&control_plane.kubeconfig()).and_then(|api| test(control_plane, &api));
            run.map_err(|error| format!("{error:#}").into())
        })
    };
    let trials = TESTS.into_iter().map(trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Here and not with the program: a test must see that nothing is left.
    drop(shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}

//! One test per rule of RFC 7606, and of the standards it revised or was followed by.

use bgp_speaker::types::{AsnWidth, Family};
use bgp_speaker::wire::attr::{Action, AttrFault};
use bgp_speaker::wire::error::{Error, MultiprotocolFault, UpdateField};
use bgp_speaker::wire::update::{Context, FirstAs};
use bgp_speaker::wire::{Update, update};

use crate::build::{
    NLRI, announce, as_path, attr, body, external, internal, mp_reach, mp_unreach, next_hop, origin, prefix,
    sound,
};

/// The prefix is withdrawn because of attribute `code`.
#[track_caller]
fn withdrawn(result: Result<Update, Error>, code: u8, fault: AttrFault) {
    let update = result.unwrap();
    assert_eq!(update.announced, []);
    assert_eq!(update.withdrawn, [prefix("192.0.2.0/24")]);
    let error = update.errors.iter().find(|error| error.code == code).unwrap();
    assert_eq!((error.fault, error.action), (fault, Action::Withdraw));
}

/// The prefix is announced without attribute `code`.
#[track_caller]
fn discarded(result: Result<Update, Error>, code: u8, fault: AttrFault) -> bgp_speaker::wire::attrs::Attrs {
    let mut update = result.unwrap();
    assert_eq!(update.withdrawn, []);
    let announced = update.announced.pop().unwrap();
    assert_eq!(announced.prefixes, [prefix("192.0.2.0/24")]);
    let error = update.errors.iter().find(|error| error.code == code).unwrap();
    assert_eq!((error.fault, error.action), (fault, Action::Discard));
    announced.attrs
}

/// The session ends with this code, subcode and data.
#[track_caller]
fn reset(result: Result<Update, Error>, subcode: u8) -> Error {
    let error = result.unwrap_err();
    let answer = error.answer();
    assert_eq!((answer.code, answer.subcode), (3, subcode), "{error}");
    error
}

/// A sound announcement with one attribute more.
fn with(context: &Context, extra: Vec<u8>) -> Result<Update, Error> {
    announce(context, &[sound(), extra])
}

/// RFC 7606 3c, for every attribute: the value is sound, one of the two bits is not.
#[test]
fn wrong_optional_or_transitive_bits_of_any_attribute_treat_as_withdraw() {
    let (new, inside) = (external(), internal());
    let old = Context {
        asn_width: AsnWidth::Two,
        ..external()
    };
    let path = [2, 1, 0, 0, 0xfd, 0xfc];
    for (context, code, flags, value) in [
        (&new, 1, 0x40, &[0][..]),
        (&new, 2, 0x40, &path),
        (&new, 3, 0x40, &[10, 98, 0, 1]),
        (&new, 4, 0x80, &[0; 4]),
        (&inside, 5, 0x40, &[0; 4]),
        (&new, 6, 0x40, &[]),
        (&new, 7, 0xc0, &[0, 0, 0xfd, 0xfc, 10, 0, 0, 1]),
        (&new, 8, 0xc0, &[0; 4]),
        (&inside, 9, 0x80, &[1; 4]),
        (&inside, 10, 0x80, &[1; 4]),
        (&new, 16, 0xc0, &[0; 8]),
        (&old, 17, 0xc0, &path),
        (&old, 18, 0xc0, &[0, 0, 0xfd, 0xfc, 10, 0, 0, 1]),
        (&new, 32, 0xc0, &[0; 12]),
    ] {
        for wrong in [flags ^ 0x80, flags ^ 0x40] {
            // First, so that it is not the repetition of a sound one.
            let attributes = [attr(wrong, code, value), sound()];
            withdrawn(announce(context, &attributes), code, AttrFault::Flags(wrong));
        }
    }
}

#[test]
fn partial_and_low_bits_of_the_flags_do_not_matter() {
    let update = announce(
        &external(),
        &[
            attr(0x4f, 1, &[0]),
            as_path(),
            next_hop(),
            attr(0xe0, 8, &[0, 1, 0, 2]),
        ],
    )
    .unwrap();
    assert_eq!(update.errors, []);
    assert_eq!(update.announced[0].attrs.communities, [0x0001_0002]);
}

#[test]
fn an_extended_length_may_be_used_for_short_values() {
    let mut long = vec![0x50, 1, 0, 1, 2];
    long.extend(as_path());
    long.extend(next_hop());
    let update = announce(&external(), &[long]).unwrap();
    assert_eq!(update.errors, []);
}

#[test]
fn a_missing_mandatory_attribute_treats_as_withdraw() {
    let context = external();
    withdrawn(
        announce(&context, &[as_path(), next_hop()]),
        1,
        AttrFault::Missing,
    );
    withdrawn(announce(&context, &[origin(), next_hop()]), 2, AttrFault::Missing);
    withdrawn(announce(&context, &[origin(), as_path()]), 3, AttrFault::Missing);
}

#[test]
fn next_hop_is_not_mandatory_beside_mp_reach_alone() {
    let update = update::decode(
        &body(&[], &[mp_reach(), origin(), as_path()].concat(), &[]),
        &external(),
    )
    .unwrap();
    assert_eq!(update.errors, []);
    assert_eq!(update.announced[0].prefixes, [prefix("fd00:1::/32")]);
}

/// RFC 4760 3.
#[test]
fn next_hop_beside_mp_reach_alone_is_ignored_whatever_it_says() {
    for value in [&[0, 0, 0, 0][..], &[10, 98, 0, 2], &[1]] {
        let attributes = [mp_reach(), origin(), as_path(), attr(0x40, 3, value)].concat();
        let update = update::decode(&body(&[], &attributes, &[]), &external()).unwrap();
        assert_eq!(update.errors, []);
        assert_eq!(update.announced[0].prefixes, [prefix("fd00:1::/32")]);
    }
}

#[test]
fn of_a_repeated_attribute_the_first_counts() {
    let attrs = discarded(
        announce(
            &external(),
            &[
                sound(),
                attr(0x80, 4, &[0, 0, 0, 7]),
                attr(0x80, 4, &[0, 0, 0, 8]),
            ],
        ),
        4,
        AttrFault::Repeated,
    );
    assert_eq!(attrs.med, Some(7));
}

#[test]
fn a_repeated_multiprotocol_attribute_resets() {
    let context = external();
    for twice in [
        [mp_reach(), mp_reach()].concat(),
        [mp_unreach(), mp_unreach()].concat(),
    ] {
        reset(
            update::decode(&body(&[], &[twice, sound()].concat(), NLRI), &context),
            1,
        );
    }
}

#[test]
fn the_strongest_action_of_several_errors_wins() {
    withdrawn(
        announce(&external(), &[sound(), attr(0x40, 6, &[1]), attr(0x80, 4, &[1])]),
        4,
        AttrFault::Length(1),
    );
}

#[test]
fn lengths_past_the_message_reset() {
    let context = external();
    for (octets, field) in [
        (&[0, 9, 0, 0][..], UpdateField::Withdrawn),
        (&[0, 0, 0, 9, 0x40][..], UpdateField::Attributes),
        (&[0, 0, 0][..], UpdateField::Attributes),
        (&[0][..], UpdateField::Withdrawn),
    ] {
        let error = reset(update::decode(&octets.to_vec().into(), &context), 1);
        assert_eq!(error, Error::UpdateLengths(field));
    }
}

#[test]
fn an_attribute_past_the_attributes_treats_as_withdraw() {
    let context = external();
    for tail in [vec![0x80, 4, 9, 0], vec![0x80, 4], vec![0x80], vec![0x90, 4, 0]] {
        let code = tail.get(1).copied().unwrap_or(0);
        withdrawn(with(&context, tail), code, AttrFault::Overrun);
    }
}

#[test]
fn a_malformed_prefix_resets_as_the_next_can_not_be_found() {
    let context = external();
    for bad in [&[33, 1, 2, 3, 4, 5][..], &[24, 192, 0][..]] {
        reset(update::decode(&body(&[], &sound(), bad), &context), 10);
        reset(update::decode(&body(bad, &[], &[]), &context), 10);
    }
}

#[test]
fn an_error_without_a_reachable_prefix_resets() {
    let error = reset(
        update::decode(&body(&[24, 10, 0, 0], &attr(0x40, 1, &[9]), &[]), &external()),
        1,
    );
    assert!(matches!(error, Error::NothingToWithdraw(_)));
}

#[test]
fn attributes_without_any_prefix_are_no_error_by_themselves() {
    let update = update::decode(&body(&[24, 10, 0, 0], &sound(), &[]), &external()).unwrap();
    assert_eq!(update.errors, []);
    assert_eq!(update.withdrawn, [prefix("10.0.0.0/24")]);
}

#[test]
fn origin_of_another_length_or_value_treats_as_withdraw() {
    let context = external();
    for (value, fault) in [
        (&[3][..], AttrFault::Value),
        (&[][..], AttrFault::Length(0)),
        (&[0, 0][..], AttrFault::Length(2)),
    ] {
        withdrawn(
            announce(&context, &[attr(0x40, 1, value), as_path(), next_hop()]),
            1,
            fault,
        );
    }
}

#[test]
fn malformed_segments_of_as_path_treat_as_withdraw() {
    let context = external();
    for (value, fault) in [
        (&[5, 1, 0, 0, 0xfd, 0xfc][..], AttrFault::Segment),
        (&[2, 2, 0, 0, 0xfd, 0xfc][..], AttrFault::Segment),
        (&[2, 0][..], AttrFault::Segment),
        (&[2, 1, 0, 0, 0xfd, 0xfc, 2][..], AttrFault::Segment),
        (&[2, 1, 0, 0, 0xfd, 0xfc, 2, 1, 0, 0, 0, 0][..], AttrFault::AsZero),
        (&[3, 1, 0, 0, 0xfd, 0xfc][..], AttrFault::Confederation),
        (&[2, 1, 0, 0, 0, 1][..], AttrFault::FirstAs),
        (&[1, 1, 0, 0, 0xfd, 0xfc][..], AttrFault::FirstAs),
        (&[][..], AttrFault::FirstAs),
    ] {
        withdrawn(
            announce(&context, &[origin(), attr(0x40, 2, value), next_hop()]),
            2,
            fault,
        );
    }
}

#[test]
fn the_first_as_is_free_where_the_session_says_so_and_inside_an_as() {
    let path = attr(0x40, 2, &[2, 1, 0, 0, 0, 1]);
    let server = Context {
        first_as: FirstAs::Any,
        ..external()
    };
    for context in [server, internal()] {
        let update = announce(&context, &[origin(), path.clone(), next_hop()]).unwrap();
        assert_eq!(update.errors, []);
    }
}

#[test]
fn next_hop_of_another_length_treats_as_withdraw() {
    withdrawn(
        announce(&external(), &[origin(), as_path(), attr(0x40, 3, &[10, 0, 0])]),
        3,
        AttrFault::Length(3),
    );
}

#[test]
fn a_next_hop_that_is_no_host_or_is_ours_treats_as_withdraw() {
    let context = external();
    for address in [
        [0, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 5],
        [255; 4],
        [10, 98, 0, 2],
    ] {
        withdrawn(
            announce(&context, &[origin(), as_path(), attr(0x40, 3, &address)]),
            3,
            AttrFault::NextHop(address.into()),
        );
    }
}

#[test]
fn med_of_another_length_treats_as_withdraw() {
    withdrawn(with(&external(), attr(0x80, 4, &[0, 1])), 4, AttrFault::Length(2));
}

#[test]
fn local_pref_from_outside_is_discarded_whatever_it_says() {
    let context = external();
    for value in [&[0, 0, 0, 200][..], &[1][..]] {
        let attrs = discarded(with(&context, attr(0x40, 5, value)), 5, AttrFault::FromExternal);
        assert_eq!(attrs.local_pref, None);
    }
}

#[test]
fn local_pref_of_another_length_from_inside_treats_as_withdraw() {
    withdrawn(with(&internal(), attr(0x40, 5, &[1])), 5, AttrFault::Length(1));
}

#[test]
fn atomic_aggregate_with_a_value_is_discarded() {
    let attrs = discarded(with(&external(), attr(0x40, 6, &[1])), 6, AttrFault::Length(1));
    assert!(!attrs.atomic_aggregate);
}

#[test]
fn aggregator_of_another_length_or_of_as_zero_is_discarded() {
    let context = external();
    let attrs = discarded(with(&context, attr(0xc0, 7, &[0; 6])), 7, AttrFault::Length(6));
    assert_eq!(attrs.aggregator, None);
    discarded(
        with(&context, attr(0xc0, 7, &[0, 0, 0, 0, 1, 2, 3, 4])),
        7,
        AttrFault::AsZero,
    );
    let old = Context {
        asn_width: AsnWidth::Two,
        first_as: FirstAs::Any,
        ..external()
    };
    let path = attr(0x40, 2, &[2, 1, 0xfd, 0xfc]);
    discarded(
        announce(&old, &[origin(), path, next_hop(), attr(0xc0, 7, &[0; 8])]),
        7,
        AttrFault::Length(8),
    );
}

#[test]
fn communities_that_are_no_multiple_or_none_treat_as_withdraw() {
    let context = external();
    for (code, lengths) in [(8, [0, 3, 5]), (16, [0, 7, 12]), (32, [0, 11, 16])] {
        for length in lengths {
            withdrawn(
                with(&context, attr(0xc0, code, &vec![1; length])),
                code,
                AttrFault::Length(length),
            );
        }
    }
}

#[test]
fn originator_and_cluster_list_from_outside_are_discarded() {
    let context = external();
    let attrs = discarded(
        with(&context, attr(0x80, 9, &[1, 2, 3, 4])),
        9,
        AttrFault::FromExternal,
    );
    assert_eq!(attrs.originator_id, None);
    let attrs = discarded(with(&context, attr(0x80, 10, &[1])), 10, AttrFault::FromExternal);
    assert!(attrs.cluster_list.is_empty());
}

#[test]
fn originator_and_cluster_list_of_other_lengths_treat_as_withdraw() {
    let context = internal();
    withdrawn(with(&context, attr(0x80, 9, &[1])), 9, AttrFault::Length(1));
    withdrawn(with(&context, attr(0x80, 10, &[])), 10, AttrFault::Length(0));
    withdrawn(with(&context, attr(0x80, 10, &[1; 6])), 10, AttrFault::Length(6));
}

/// MP_REACH_NLRI with this value and everything else sound.
fn reach(value: &[u8], context: &Context) -> Result<Update, Error> {
    let attributes = [attr(0x80, 14, value), origin(), as_path()].concat();
    update::decode(&body(&[], &attributes, &[]), context)
}

fn multiprotocol_fault(error: &Error) -> MultiprotocolFault {
    match error {
        Error::Multiprotocol { fault, .. } => *fault,
        other => panic!("{other}"),
    }
}

#[test]
fn mp_reach_with_a_next_hop_of_another_length_resets() {
    let context = external();
    for (afi, length) in [(2, 4), (2, 15), (2, 24), (2, 0), (1, 16), (1, 0)] {
        let mut value = vec![0, afi, 1, length];
        value.extend(vec![9; usize::from(length)]);
        value.push(0);
        let error = reset(reach(&value, &context), 9);
        assert_eq!(
            multiprotocol_fault(&error),
            MultiprotocolFault::NextHopLength(length)
        );
    }
}

#[test]
fn mp_reach_that_is_too_short_or_ends_in_half_a_prefix_resets_and_shows_itself() {
    let context = external();
    for value in [&[][..], &[0, 2], &[0, 2, 1], &[0, 2, 1, 16, 1, 2]] {
        let error = reset(reach(value, &context), 9);
        assert_eq!(multiprotocol_fault(&error), MultiprotocolFault::Short);
        assert_eq!(error.answer().data, attr(0x80, 14, value));
    }
    let mut value = vec![0, 2, 1, 16];
    value.extend([9; 16]);
    value.extend([0, 129]);
    let error = reset(reach(&value, &context), 9);
    assert_eq!(multiprotocol_fault(&error), MultiprotocolFault::Network);
}

#[test]
fn mp_unreach_that_is_too_short_or_ends_in_half_a_prefix_resets() {
    let context = external();
    for value in [&[0, 2][..], &[0, 2, 1, 64, 1]] {
        reset(
            update::decode(&body(&[], &attr(0x80, 15, value), &[]), &context),
            9,
        );
    }
}

#[test]
fn wrong_bits_of_mp_reach_withdraw_its_prefixes() {
    let mut wrong = mp_reach();
    wrong[0] = 0xc0;
    let attributes = [wrong, origin(), as_path()].concat();
    let update = update::decode(&body(&[], &attributes, &[]), &external()).unwrap();
    assert_eq!(update.announced, []);
    assert_eq!(update.withdrawn, [prefix("fd00:1::/32")]);
}

#[test]
fn wrong_bits_of_mp_unreach_do_not_keep_its_prefixes() {
    let mut wrong = mp_unreach();
    wrong[0] = 0x40;
    let update = update::decode(&body(&[], &wrong, &[]), &external()).unwrap();
    assert_eq!(update.withdrawn, [prefix("fd00:2::/32")]);
    assert_eq!(update.errors[0].fault, AttrFault::Flags(0x40));
}

#[test]
fn treat_as_withdraw_takes_the_prefixes_of_both_families() {
    let attributes = [mp_reach(), sound(), attr(0x80, 4, &[])].concat();
    let update = update::decode(&body(&[], &attributes, NLRI), &external()).unwrap();
    assert_eq!(update.withdrawn, [prefix("192.0.2.0/24"), prefix("fd00:1::/32")]);
}

#[test]
fn a_family_that_was_not_negotiated_is_ignored() {
    let context = Context {
        families: vec![Family::IPV4_UNICAST],
        ..external()
    };
    let attributes = [mp_reach(), mp_unreach(), sound()].concat();
    let update = update::decode(&body(&[], &attributes, NLRI), &context).unwrap();
    assert_eq!(update.announced.len(), 1);
    assert_eq!(update.withdrawn, []);
    assert_eq!(update.errors[0].fault, AttrFault::Family(Family::IPV6_UNICAST));
    let context = Context {
        families: vec![Family::IPV6_UNICAST],
        ..external()
    };
    let update = update::decode(&body(&[], &sound(), NLRI), &context).unwrap();
    assert_eq!(update.announced, []);
    assert_eq!(update.errors[0].fault, AttrFault::Family(Family::IPV4_UNICAST));
}

#[test]
fn an_unknown_well_known_attribute_resets_and_shows_itself() {
    let error = reset(with(&external(), attr(0x40, 99, &[1, 2])), 2);
    assert_eq!(error.answer().data, attr(0x40, 99, &[1, 2]));
}

#[test]
fn an_unknown_optional_attribute_is_kept_with_partial_if_transitive_and_dropped_if_not() {
    let update = announce(
        &external(),
        &[sound(), attr(0xc0, 99, &[1, 2]), attr(0x80, 98, &[3])],
    )
    .unwrap();
    assert_eq!(update.errors, []);
    let unknown = &update.announced[0].attrs.unknown;
    assert_eq!(unknown.len(), 1);
    assert_eq!((unknown[0].flags, unknown[0].code), (0xe0, 99));
}

#[test]
fn as4_attributes_of_a_new_speaker_are_discarded() {
    let context = external();
    let path = attr(0xc0, 17, &[2, 1, 0, 1, 0, 0]);
    let attrs = discarded(with(&context, path), 17, AttrFault::FromNewSpeaker);
    assert_eq!(attrs.as_path.0.len(), 1);
    let aggregator = attr(0xc0, 18, &[0, 1, 0, 0, 10, 0, 0, 1]);
    let attrs = discarded(with(&context, aggregator), 18, AttrFault::FromNewSpeaker);
    assert_eq!(attrs.aggregator, None);
}

#[test]
fn a_malformed_as4_path_is_discarded() {
    let old = Context {
        asn_width: AsnWidth::Two,
        ..external()
    };
    let path = attr(0x40, 2, &[2, 1, 0xfd, 0xfc]);
    for (value, fault) in [
        (&[2, 3, 0, 0][..], AttrFault::Segment),
        (&[2, 1, 0, 0, 0, 0][..], AttrFault::AsZero),
    ] {
        let attrs = discarded(
            announce(&old, &[origin(), path.clone(), next_hop(), attr(0xc0, 17, value)]),
            17,
            fault,
        );
        assert_eq!(attrs.as_path.0.len(), 1);
    }
}

#[test]
fn an_as4_aggregator_of_another_length_or_of_as_zero_is_discarded() {
    let old = Context {
        asn_width: AsnWidth::Two,
        ..external()
    };
    let path = attr(0x40, 2, &[2, 1, 0xfd, 0xfc]);
    // AS_TRANS at 10.0.0.1.
    let two = attr(0xc0, 7, &[0x5b, 0xa0, 10, 0, 0, 1]);
    for (value, fault) in [
        (&[0; 6][..], AttrFault::Length(6)),
        (&[0, 0, 0, 0, 1, 2, 3, 4][..], AttrFault::AsZero),
    ] {
        let sound = [origin(), path.clone(), next_hop(), two.clone()];
        let attributes = [sound.concat(), attr(0xc0, 18, value)];
        let attrs = discarded(announce(&old, &attributes), 18, fault);
        assert_eq!(attrs.aggregator.unwrap().asn.get(), 23456);
    }
}

#[test]
fn a_prefix_that_is_no_destination_is_ignored_by_itself() {
    let nlri = [4, 0xe0, 24, 192, 0, 2];
    let update = update::decode(&body(&[], &sound(), &nlri), &external()).unwrap();
    assert_eq!(update.announced[0].prefixes, [prefix("192.0.2.0/24")]);
    assert_eq!(update.errors[0].fault, AttrFault::NoDestination(1));
    assert_eq!(
        update.errors[0].to_string(),
        "NLRI has 1 prefixes that are no destination: discarded"
    );
}

#[test]
fn a_prefix_that_is_ignored_hides_no_missing_next_hop() {
    let attributes = [mp_reach(), origin(), as_path()].concat();
    let nlri = [4, 0xe0, 24, 192, 0, 2];
    let update = update::decode(&body(&[], &attributes, &nlri), &external()).unwrap();
    assert_eq!(update.announced, []);
    assert_eq!(update.withdrawn, [prefix("192.0.2.0/24"), prefix("fd00:1::/32")]);
}

#[test]
fn errors_say_what_a_person_needs() {
    let update = with(&external(), attr(0x80, 4, &[0, 1])).unwrap();
    assert_eq!(
        update.errors[0].to_string(),
        "MULTI_EXIT_DISC (4) has 2 octets: treated as withdraw"
    );
}

//! TCP-MD5 (RFC 2385) and GTSM (RFC 5082), on connections dialled and accepted.

use std::sync::Arc;

use anyhow::{Result, ensure};
use lab::router::{Dials, Feature, TtlSecurity};
use stentor_tests::subject::{Happening, Moment, Order};

use crate::bed::{Bed, Plan, SOON};
use crate::table::{Column, Row, Sheet};

const RIGHT: &str = "right-key";
const WRONG: &str = "wrong-key";

/// What the kernel counts where a key comes that nobody asked for, and where none comes that should.
const UNEXPECTED: &str = "TCPMD5Unexpected";
const MISSING: &str = "TCPMD5NotFound";

/// Fills the columns of MD5 and GTSM, and `Tshark`.
pub(crate) fn dialled(row: Row) -> Result<()> {
    // When we dial, they accept.
    both(
        row,
        (Dials::Yes, Dials::Never),
        (Column::Md5Dialled, Feature::Md5Accepted),
        (Column::TtlDialled, Feature::TtlSecurityAccepted),
    )
}

/// Fills the columns of MD5 and GTSM, and `Tshark`.
pub(crate) fn accepted(row: Row) -> Result<()> {
    both(
        row,
        (Dials::Never, Dials::Yes),
        (Column::Md5Accepted, Feature::Md5Dialled),
        (Column::TtlAccepted, Feature::TtlSecurityDialled),
    )
}

fn both(
    row: Row,
    (we, they): (Dials, Dials),
    (md5_column, md5_feature): (Column, Feature),
    (ttl_column, ttl_feature): (Column, Feature),
) -> Result<()> {
    let mut sheet = Sheet::new(row);
    let plan = Plan {
        we,
        they,
        ..Plan::PLAIN
    };
    sheet.cell(md5_column, row.kind.lacks(md5_feature), || md5(row, plan));
    sheet.cell(ttl_column, row.kind.lacks(ttl_feature), || ttl(row, plan));
    sheet.finish()
}

fn md5(row: Row, plan: Plan) -> Result<()> {
    let mut bed = Bed::new(row, plan)?;
    // The accepting side drops what was dialled, and its kernel counts why.
    let (accepting, only_ours, only_theirs) = match plan.we {
        Dials::Yes => (Arc::clone(&bed.their_node), UNEXPECTED, MISSING),
        Dials::Never => (Arc::clone(&bed.our_node), MISSING, UNEXPECTED),
    };
    bed.our_side().password = Some(RIGHT.into());
    bed.start()?;
    bed.refuses(&accepting, only_ours)?;
    bed.their_side().password = Some(RIGHT.into());
    bed.our_side().password = None;
    bed.configure()?;
    bed.restart_router()?;
    bed.refuses(&accepting, only_theirs)?;
    bed.our_side().password = Some(WRONG.into());
    bed.configure()?;
    bed.refuses(&accepting, "TCPMD5Failure")?;
    bed.our_side().password = Some(RIGHT.into());
    let since = bed.subject()?.now();
    bed.configure()?;
    bed.establishes(since)?;
    bed.exchange()?;
    bed.judge()
}

fn ttl(row: Row, plan: Plan) -> Result<()> {
    let mut bed = Bed::new(row, plan)?;
    bed.our_side().ttl_security = TtlSecurity::On;
    bed.start()?;
    match plan.we {
        // The kernel drops what comes.
        Dials::Yes => bed.refuses(&bed.our_node, "TCPMinTTLDrop")?,
        // The connection came before the kernel knew what to require of it.
        Dials::Never => {
            let refused = |event: &Happening| match event {
                Happening::State { why: Some(why), .. } => {
                    why.contains("at least 255 is required (RFC 5082)")
                }
                Happening::State { .. } | Happening::EndOfRib { .. } | Happening::Other(_) => false,
            };
            bed.subject()?
                .happens("the refusal", Moment::BEGINNING, SOON, refused)?;
        }
    }
    let established = |event: &Happening| matches!(event, Happening::State { to, .. } if to == "Established");
    let ever = bed.subject()?.happened(Moment::BEGINNING, established);
    ensure!(!ever, "established with a neighbour that was further away");
    let since = bed.subject()?.now();
    bed.their_side().ttl_security = TtlSecurity::On;
    bed.router.kill();
    match plan.we {
        // Nothing the daemon says with its small TTL reaches us, not even that the connection is over.
        Dials::Yes => bed.subject()?.done(&Order::Reset)?,
        Dials::Never => {}
    }
    bed.router.run()?;
    bed.establishes(since)?;
    bed.exchange()?;
    bed.judge()
}

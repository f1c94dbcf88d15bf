//! Records for viewers without edges: newest first, believed, and waited for.

use millstream_wire::chain::Chain;

use super::*;

/// The frames of a body, believed in the order they come.
fn believe(body: &Bytes, chain: &mut Chain) -> Vec<u64> {
    let mut frames = Deframer::default();
    frames.push(body);
    let mut numbers = Vec::new();
    while let Some(frame) = frames.next_frame().unwrap() {
        match frame {
            Frame::Delegation(signed) => drop(chain.accept_delegation(&signed, NOW).unwrap()),
            Frame::Catalog(signed) => drop(chain.accept_catalog(&signed).unwrap()),
            Frame::Record(signed) => {
                chain.accept_record(&signed).unwrap();
                numbers.push(signed.unverified().number);
            }
            other => panic!("{other:?} has no place here"),
        }
    }
    numbers
}

#[tokio::test]
async fn records_come_from_the_one_asked_for_newest_first() {
    let mut world = plain_world().await;
    world.run(32);
    let body = world.get("records?rendition=video&from=29").await.bytes().await.unwrap();
    assert_eq!(believe(&body, &mut show::chain()), [31, 30, 29]);
    let newest = world.get("records?rendition=audio").await.bytes().await.unwrap();
    assert_eq!(
        believe(&newest, &mut show::chain()),
        (16..32).rev().collect::<Vec<_>>(),
        "the newest two segments', and nobody else's"
    );
}

#[tokio::test]
async fn a_record_that_does_not_exist_yet_is_waited_for() {
    let mut world = plain_world().await;
    world.run(4);
    let url = format!("{}/records?rendition=video&from=4", world.url);
    let asked = tokio::spawn(world.client.get(url).send());
    let patience = tokio::time::Instant::now() + PATIENCE;
    while world.origin.waiters() == 0 {
        assert!(tokio::time::Instant::now() < patience, "nobody waits");
        tokio::task::yield_now().await;
    }
    world.run(1);
    let body = asked.await.unwrap().unwrap().bytes().await.unwrap();
    assert_eq!(believe(&body, &mut show::chain()), [4]);
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused() {
    let mut world = plain_world().await;
    world.run(4);
    assert_eq!(world.get("records").await.status(), 400);
    assert_eq!(world.get("records?rendition=video&from=x").await.status(), 400);
    assert_eq!(world.get("records?rendition=smell&from=1").await.status(), 404);
}

//! One table is disabled, in every way to name it; the others stay.

use std::process::Stdio;

use super::World;
use super::database::client;

fn switch(world: &World, change: &str, table: &str) {
    let done = world.gateway.run(&["tool", change, "crm", table]);
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_table_is_refused_in_the_very_next_statement_and_sessions_are_cut() {
    let mut world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    let password = world.password(&token);
    let orders = "SELECT count(*) FROM orders";
    let ways = [
        orders,
        "SELECT count(*) FROM public.orders",
        "SELECT count(*) FROM customers WHERE EXISTS (SELECT 1 FROM orders)",
        "WITH some AS (SELECT * FROM orders) SELECT count(*) FROM some",
        "COPY orders TO STDOUT",
        "DELETE FROM orders WHERE false",
    ];
    assert_eq!(world.query(&password, orders).1, "");
    for name in ["public.orders", "Orders"] {
        let session = client(world.port, "crm", &password)
            .args(["-c", orders])
            .args(["-c", "SELECT count(*) FROM generate_series(1, 1000000000)"])
            .args(["-c", orders])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        world.database.until_there_are_roles(true).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        switch(&world, "disable", name);
        let ended = session.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&ended.stderr);
        assert!(error.contains("was ended"), "its session is cut: {error}");
        for sql in ways {
            let (out, error) = world.query(&password, sql);
            assert!(error.contains("disabled"), "{name}: {sql}: {out} {error}");
        }
        let (out, error) = world.query(&password, "SELECT count(id) FROM customers");
        assert_eq!(
            (out.trim(), error.as_str()),
            ("50", ""),
            "another table stays"
        );
        // It holds over a crash.
        world.gateway.kill();
        world.gateway.restart().await;
        assert!(world.query(&password, orders).1.contains("disabled"));
        switch(&world, "enable", name);
        assert_eq!(world.query(&password, orders).1, "");
    }
    world.gateway.verify();
}

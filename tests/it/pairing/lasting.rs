//! Many pairings in a row leave nothing behind.

use super::in_air;
use super::rig::Rig;

/// What a process could leak: tasks, files and sockets, threads.
fn counts() -> [usize; 3] {
    let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
    [tokio::runtime::Handle::current().metrics().num_alive_tasks(), entries("/proc/self/fd"), entries("/proc/self/task")]
}

#[test]
fn fifty_pairings_in_a_row_leave_nothing_behind() {
    in_air("lasting::fifty_pairings_in_a_row_leave_nothing_behind", async |air| {
        let rig = Rig::new(air).await;
        let mut before = [0; 3];
        for round in 0..50 {
            let mut device = rig.device(|_| {}).await;
            rig.place(&mut device, 185);
            let done = rig.pair(&device).await;
            assert_eq!((done.step, done.problem), ("done", None), "{round}");
            rig.disconnected(&device).await;
            device.remove(&rig).await;
            if round == 4 {
                // By now everything that is made once is there.
                rig.until("the radio rests", || !rig.air.discovering("hci0")).await;
                before = counts();
            }
        }
        rig.until("the radio rests", || !rig.air.discovering("hci0")).await;
        // Connections end a moment after their devices; a pool of threads may have grown a little.
        let most = [before[0] + 8, before[1] + 8, before[2] + 16];
        println!("before {before:?}, after {:?}", counts());
        rig.until(&format!("as before: {before:?}"), || counts().iter().zip(&most).all(|(now, most)| now <= most)).await;
    });
}

//! Seeds for the `association` target: scripts in which two associations live, and one among forgeries.

/// Lives of two associations, as the `association` target reads them: ways and settings first, then steps.
pub(crate) fn keep_all(keep: &dyn Fn(&str, &str, &[u8])) {
    const PLAIN: [u8; 5] = [0, 0, 0, 0, 0];
    let life = |name: &str, head: [u8; 5], steps: &[&[u8]]| {
        keep("association", name, &[&head[..], &steps.concat()].concat());
    };
    let (run, wait, one, burst) = (0, 4, 5, 8);
    let (reset, shut, lose, late, read, touch, slow, repeat) = (9, 10, 11, 12, 13, 14, 15, 16);
    let (forge, alter) = (17, 28);
    let talk: &[&[u8]] = &[
        &[one, 0, 1, 0, 9, one, 1, 1, 0, 9, one, 2, 2, 8, 0, one, 3, 2, 0x20, 0, one, 0, 3, 0x60, 0],
        &[run, 40, one, 1, 3, 0x60, 0, burst, 0, 30, 9, burst, 1, 30, 200, run, 200],
    ];
    life("talk", PLAIN, talk);
    life("talk-of-plain-data", [0, 0, 1, 0, 1], talk);
    life("talk-in-small-windows", [0, 3, 8, 3, 1], talk);
    life("talk-with-checksums", [2, 0, 6, 0, 6], talk);
    life(
        "longer-packets",
        [0x20, 0x80, 0x20, 0x40, 8],
        &[talk, talk, &[&[one, 0, 1, 0xff, 0, wait, 9]]].concat(),
    );
    // Long packets are found, fill the path, and do not pass any more.
    let long = [one, 0, 1, 0xff, 0, run, 200, one, 0, 1, 0xff, 0, run, 200];
    life(
        "a-path-that-narrows",
        [0, 0x40, 0, 0x40, 0],
        &[&long, &[one, 0, 1, 0xff, 0, touch, 4, 3, wait, 30], &[touch, 5, 0, wait, 9]],
    );
    life("both-begin", [4, 0, 0, 0, 0], &[&[touch, 0, 0, run, 3, touch, 1, 0], talk[0], &[run, 90]]);
    life(
        "lost-and-late",
        PLAIN,
        &[
            &[one, 0, 1, 0x40, 0, lose, 0, 0x55, run, 20, late, 0, 1, 9, late, 0, 0, 0x85, lose, 1, 3],
            &[one, 1, 1, 0x40, 0, slow, 60, run, 50, lose, 0, 0xff, burst, 2, 9, 100, run, 255, repeat, 0, 3],
            &[repeat, 1, 5, wait, 5],
        ],
    );
    for (name, ways) in [("given-up", 0), ("given-up-of-plain-data", 1)] {
        life(
            name,
            [0, 0, ways, 0, ways],
            &[
                &[
                    lose, 0, 0xff, one, 8, 1, 0x10, 0, one, 12, 2, 0x20, 0, burst, 14, 20, 90, burst, 0x4c,
                    80, 9,
                ],
                &[run, 100, lose, 0, 0xff, run, 250, lose, 0, 0xff, wait, 3, one, 0, 1, 0, 9, wait, 2],
            ],
        );
    }
    life("reset", PLAIN, &[talk[0], &[run, 60, reset, 0, 1, reset, 1, 2, run, 90, one, 0, 1, 0, 9, run, 60]]);
    life(
        "unread",
        PLAIN,
        &[&[read, 3], talk[0], talk[0], &[wait, 5, one, 0, 1, 0x80, 0, wait, 9, read, 1, wait, 3]],
    );
    life("shut", PLAIN, &[talk[0], &[shut, 0, one, 1, 1, 0, 9, wait, 5]]);
    life("both-shut", PLAIN, &[talk[0], &[shut, 0, shut, 1, lose, 0, 1, wait, 5]]);
    life("abort", PLAIN, &[talk[0], &[shut, 0xf0, wait, 5]]);
    life("heartbeats", [0, 0, 0x20, 0, 0xe0], &[talk[0], &[wait, 20, touch, 2, 0, lose, 0, 0xff, wait, 60]]);
    // A forger and one association: chunks of each kind, near what is awaited.
    let alone: [u8; 5] = [1, 0, 0, 0, 0];
    let data: &[&[u8]] = &[
        &[forge, 0, 0, 3, 1, 0, 0, 0, forge, 0x20, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 1, 0, 0, 0],
        &[forge, 0x10, 0, 3, 1, 0, 0, 2, 0, 7, 0x41, 0, 0, 0, run, 50],
    ];
    life("forged-data", alone, data);
    life(
        "forged-acknowledgements",
        alone,
        &[
            &[
                one, 0, 1, 0x20, 0, run, 9, forge, 0, 8, 0x84, 0, 3, 0, 1, 2, run, 9, forge, 0, 8, 0, 1, 0,
                run, 99,
            ],
            &[forge, 0, 8, 0, 0, 0, wait, 4],
        ],
    );
    life("forged-forward", alone, &[data[0], &[forge, 0, 13, 3, 2, 1, 0, 2, 2, 1, 1, run, 50], data[1]]);
    life(
        "forged-reset",
        alone,
        &[data[0], &[reset, 0, 1, forge, 0, 14, 0, 0, 0, 2, 1, 2, run, 50, forge, 0, 15, 1, 0, 0, run, 50]],
    );
    life(
        "forged-anew",
        alone,
        &[
            data[0],
            &[forge, 12, 16, 0, 0, 0, 0, forge, 0, 18, 0, 0, forge, 0, 19, forge, 0, 21, 0, forge, 0, 20, 9],
        ],
    );
    life(
        "forged-end",
        alone,
        &[data[0], &[one, 0, 1, 1, 0, forge, 0, 22, 0, run, 50, forge, 0, 24, 0, run, 50]],
    );
    life(
        "forged-answer",
        [5, 0, 0, 0, 0],
        &[&[touch, 0, 0, forge, 0, 17, 0, 0, 4, 1, 2, 3, 4, run, 20, forge, 0, 19, run, 20], data[0]],
    );
    life("forged-bytes", alone, &[&[forge, 0, 27, 8, 0x7f, 0, 0, 8, 1, 2, 3, 4, forge, 0, 25, 2, run, 50]]);
    life(
        "between-two",
        PLAIN,
        &[talk[0], &[forge, 0, 0, 3, 1, 0, 0, 0, forge, 1, 8, 0, 0, 0, run, 90], talk[1]],
    );
    life(
        "altered",
        PLAIN,
        &[talk[0], &[run, 30, alter, 0, 2, 20, 0, 9, alter, 5, 3, 16, 4, 30, 1, 0, run, 90]],
    );
}

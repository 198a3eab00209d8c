use super::*;

fn controller(token_file: PathBuf) -> Controller {
    Controller {
        address: "192.0.2.1:7443".to_owned(),
        node: NodeName("n1".to_owned()),
        ca: PathBuf::new(),
        token_file,
    }
}

fn client(path: &std::path::Path, core: mpsc::Sender<Input>) -> Client {
    Client {
        controller: controller(PathBuf::new()),
        replica: Replica::default(),
        anew: false,
        kept: Kept::new(path.to_owned(), crate::saver::Saver::start().unwrap()),
        core,
        view: watch::channel(Arc::default()).1,
        bgp: watch::channel(margay_bgpd::Status::default()).1,
        link: watch::channel(Link::Unknown).0,
        messages: Counted::default(),
    }
}

/// A felix that is killed after the kernel has something must know it when it starts again.
#[test]
fn the_core_hears_of_nothing_that_is_not_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.jsonl");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (core, mut told) = mpsc::channel(1);
        let mut client = client(&path, core.clone());
        let revision = |count| Revision {
            run: "run".to_owned(),
            count,
        };
        let network = margay_sync::message::Change::Network(None);
        let state = Box::default();
        let messages = [
            Message::Snapshot {
                revision: revision(1),
                state,
            },
            Message::Delta {
                since: 1,
                revision: revision(2),
                changes: vec![network],
            },
            Message::Same {
                revision: revision(3),
            },
        ];
        for (message, count) in messages.into_iter().zip(1..) {
            // The core takes nothing, so telling it waits.
            core.send(Input::Started).await.unwrap();
            let mut take = std::pin::pin!(client.take(message));
            let kept = async {
                while kept::load(&path).is_none_or(|kept| kept.revision() != Some(&revision(count)))
                {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                _ = &mut take => panic!("told although the core takes nothing"),
                kept = timeout(Duration::from_secs(20), kept) => {
                    kept.unwrap_or_else(|_| panic!("revision {count} is not on disk"));
                }
            }
            told.recv().await.unwrap();
            take.await.unwrap();
            told.recv().await.unwrap();
        }
        for kind in ["snapshot", "delta", "same"] {
            let counted = health::Message { kind };
            assert_eq!(client.messages.get_or_create(&counted).get(), 1, "{kind}");
        }
    });
}

#[test]
fn another_token_in_the_file_is_noticed_and_one_that_is_missing_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (controller, look) = (controller(file.clone()), Duration::from_millis(1));
        let mut another = std::pin::pin!(another_token(&controller, "Bearer first", look));
        for content in [Some("first\n"), None, Some("first")] {
            match content {
                Some(content) => std::fs::write(&file, content).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            let looks = timeout(20 * look, &mut another).await;
            assert!(looks.is_err(), "{content:?} is no other token");
        }
        std::fs::write(&file, "second").unwrap();
        let noticed = timeout(Duration::from_secs(20), another).await;
        noticed.expect("the second token is noticed");
    });
}

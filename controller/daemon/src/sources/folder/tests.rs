use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use margay_sync::status::ObjectsPage;

use super::{Handle, start};
use crate::clock;
use crate::sources::ObjectEvent;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn files_of_all_sorts_are_read_and_followed() {
    let mut world = World::new();
    world.write("a.yaml", &[namespace("a"), namespace("b")].concat());
    world.write("deep/er/c.yml", &namespace("c"));
    world.write(
        "d.json",
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"d"}}"#,
    );
    world.write("e.txt", &namespace("e"));
    world.write(".hidden.yaml", &namespace("f"));
    world.start();
    assert_eq!(world.names(), ["a", "b", "c", "d"]);
    world.write("a.yaml", &namespace("b"));
    world.write("new/folder/g.yaml", &namespace("g"));
    world.until(&["b", "c", "d", "g"]);
    fs::rename(world.path("new"), world.path("newer")).unwrap();
    fs::remove_file(world.path("d.json")).unwrap();
    world.until(&["b", "c", "g"]);
    world.until_page(|page| {
        page.objects
            .iter()
            .any(|object| object.file == "newer/folder/g.yaml")
    });
    fs::remove_dir_all(world.path("newer")).unwrap();
    world.until(&["b", "c"]);
}

#[test]
fn a_file_is_taken_when_its_writer_closes_it() {
    let mut world = World::new();
    world.write("a.yaml", &namespace("a"));
    world.start();
    // Truncated and half-written, by a writer that is still at it.
    let mut file = File::create(world.path("a.yaml")).unwrap();
    file.write_all(b"apiVersion: v1\nkind: Names").unwrap();
    file.flush().unwrap();
    // Something else that is noticed shows that this was not.
    world.write("b.yaml", &namespace("b"));
    world.until(&["a", "b"]);
    world.look();
    assert!(world.page.refused.is_empty(), "{:?}", world.page.refused);
    file.write_all(b"pace\nmetadata: {name: c}\n").unwrap();
    drop(file);
    world.until(&["b", "c"]);
}

#[test]
fn a_file_that_is_never_closed_is_taken_once_it_is_silent() {
    let mut world = World::new();
    world.start();
    let mut file = File::create(world.path("a.yaml")).unwrap();
    file.write_all(namespace("a").as_bytes()).unwrap();
    world.until(&["a"]);
    drop(file);
}

#[test]
fn a_rename_into_place_is_one_step() {
    let mut world = World::new();
    world.write("a.yaml", &namespace("a"));
    world.start();
    fs::write(
        world.path(".a.yaml.tmp"),
        [namespace("a"), namespace("b")].concat(),
    )
    .unwrap();
    fs::rename(world.path(".a.yaml.tmp"), world.path("a.yaml")).unwrap();
    world.until(&["a", "b"]);
    world.never_deleted("a");
}

#[test]
fn an_object_whose_file_is_renamed_is_not_deleted() {
    let mut world = World::new();
    world.write("a.yaml", &[namespace("a"), namespace("b")].concat());
    world.start();
    fs::rename(world.path("a.yaml"), world.path("b.yaml")).unwrap();
    world.until_page(|page| page.objects.iter().all(|object| object.file == "b.yaml"));
    world.write("c.yaml", &namespace("c"));
    world.until(&["a", "b", "c"]);
    world.never_deleted("a");
    world.never_deleted("b");
}

#[test]
fn an_object_that_an_open_file_may_bring_back_is_not_deleted() {
    let mut world = World::new();
    world.write("a.yaml", &[namespace("a"), namespace("b")].concat());
    world.start();
    // The way an editor saves: the new file is there, empty, when the object is gone.
    let mut file = File::create(world.path("b.yaml")).unwrap();
    world.write("a.yaml", &namespace("a"));
    world.write("c.yaml", &namespace("c"));
    world.until(&["a", "b", "c"]);
    file.write_all(namespace("b").as_bytes()).unwrap();
    drop(file);
    world.until_page(|page| page.objects.iter().any(|object| object.file == "b.yaml"));
    world.never_deleted("b");
}

#[test]
fn an_object_that_is_moved_by_rewriting_both_files_is_not_deleted() {
    let mut world = World::new();
    world.write("a.yaml", &[namespace("a"), namespace("b")].concat());
    world.start();
    // On a busy machine the second file may come too late, so there is more than one try.
    let moved = (0..50).any(|_| {
        world.write("a.yaml", &namespace("a"));
        world.write("b.yaml", &namespace("b"));
        world.until_page(|page| page.objects.iter().any(|object| object.file == "b.yaml"));
        world.write("a.yaml", &[namespace("a"), namespace("b")].concat());
        fs::remove_file(world.path("b.yaml")).unwrap();
        world.until_page(|page| page.objects.iter().all(|object| object.file == "a.yaml"));
        world.until(&["a", "b"]);
        std::mem::take(&mut world.deleted).is_empty()
    });
    assert!(moved);
}

#[test]
fn broken_files_keep_what_was_accepted_of_them_also_over_a_restart() {
    let mut world = World::new();
    world.write("a.yaml", &[namespace("a"), namespace("b")].concat());
    world.start();
    world.write("a.yaml", &format!("{}---\n\tkind: [\n", namespace("c")));
    world.until(&["a", "b", "c"]);
    world.until_page(|page| page.refused.len() == 1);
    let refused = world.page.refused[0].clone();
    assert_eq!(
        (refused.file.as_str(), refused.line),
        ("a.yaml", 6),
        "{}",
        refused.reason
    );
    assert_eq!(
        refused.in_force.iter().collect::<Vec<_>>(),
        ["Namespace a", "Namespace b"]
    );
    for _ in 0..2 {
        world.restart();
        assert_eq!(world.names(), ["a", "b", "c"]);
        assert_eq!(world.page.refused, std::slice::from_ref(&refused));
    }
    world.write("a.yaml", &namespace("c"));
    world.until(&["c"]);
    world.restart();
    assert_eq!(world.names(), ["c"]);
}

#[test]
fn a_file_that_went_while_nobody_looked_is_gone_after_the_restart() {
    let mut world = World::new();
    world.write("a.yaml", &namespace("a"));
    world.write("b.yaml", &namespace("b"));
    world.start();
    world.stop();
    fs::rename(world.path("a.yaml"), world.path("c.yaml")).unwrap();
    fs::remove_file(world.path("b.yaml")).unwrap();
    world.restart();
    assert_eq!(world.names(), ["a"]);
    world.restart();
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn links_are_followed_as_in_a_mounted_config_map() {
    use std::os::unix::fs::symlink;
    let mut world = World::new();
    for (version, name) in [("..1", "a"), ("..2", "b")] {
        fs::create_dir(world.path(version)).unwrap();
        fs::write(world.path(version).join("x.yaml"), namespace(name)).unwrap();
    }
    symlink("..1", world.path("..data")).unwrap();
    symlink("..data/x.yaml", world.path("x.yaml")).unwrap();
    world.start();
    assert_eq!(world.names(), ["a"]);
    symlink("..2", world.path("..data_tmp")).unwrap();
    fs::rename(world.path("..data_tmp"), world.path("..data")).unwrap();
    world.until(&["b"]);
    let elsewhere = world.state.path().join("y");
    fs::write(&elsewhere, namespace("c")).unwrap();
    fs::hard_link(&elsewhere, world.path("y.yaml")).unwrap();
    world.until(&["b", "c"]);
}

#[test]
fn links_that_go_round_in_circles_are_not_followed() {
    use std::os::unix::fs::symlink;
    let mut world = World::new();
    world.write("deep/a.yaml", &namespace("a"));
    for name in ["deep/up", "deep/again", "deep/more"] {
        symlink(world.folder.path(), world.path(name)).unwrap();
    }
    world.start();
    assert_eq!(world.names(), ["a"]);
    world.write("deep/b.yaml", &namespace("b"));
    world.until(&["a", "b"]);
}

#[test]
fn a_folder_that_goes_away_is_no_order_to_delete_everything() {
    let mut world = World::new();
    let aside = world.state.path().join("aside");
    world.write("a.yaml", &namespace("a"));
    world.start();
    fs::rename(world.folder.path(), &aside).unwrap();
    world.until_page(|page| {
        page.refused
            .iter()
            .any(|refused| refused.reason.contains("is gone"))
    });
    assert_eq!(world.names(), ["a"]);
    fs::rename(&aside, world.folder.path()).unwrap();
    world.until_page(|page| page.refused.is_empty());
    world.write("b.yaml", &namespace("b"));
    world.until(&["a", "b"]);
    world.never_deleted("a");
}

#[test]
fn without_a_folder_the_message_names_it() {
    let state = tempfile::tempdir().unwrap();
    let error = start(Path::new("/nowhere/at/all"), state.path(), |_| true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the folder /nowhere/at/all cannot be read"
    );
}

#[test]
fn odd_octets_are_refused_and_change_nothing() {
    let mut world = World::new();
    world.write("a.yaml", &namespace("a"));
    world.start();
    fs::write(world.path("a.yaml"), b"\xff\xfe\x00garbage").unwrap();
    world.until_page(|page| {
        page.refused
            .iter()
            .any(|refused| refused.reason.contains("not UTF-8"))
    });
    assert_eq!(world.names(), ["a"]);
    world.write("b.yaml", "&a [*a, *a]\n---\n{{{{\n---\n- 1\n---\n\u{0}\n");
    world.until_page(|page| page.refused.len() == 5);
    assert_eq!(world.names(), ["a"]);
}

/// A folder, a state folder, and a source between them.
struct World {
    folder: tempfile::TempDir,
    state: tempfile::TempDir,
    source: Option<(Handle, mpsc::Receiver<Vec<ObjectEvent>>)>,
    objects: BTreeMap<String, usize>,
    deleted: Vec<String>,
    page: ObjectsPage,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
            source: None,
            objects: BTreeMap::new(),
            deleted: Vec::new(),
            page: ObjectsPage::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Starts the source and takes its first update, which is there by then.
    fn start(&mut self) {
        let (updates, inbox) = mpsc::channel();
        let send = move |update| updates.send(update).is_ok();
        let handle = start(self.folder.path(), self.state.path(), send).unwrap();
        let first = inbox.try_recv().unwrap();
        self.source = Some((handle, inbox));
        self.take(first);
        self.look();
    }

    fn stop(&mut self) {
        self.source = None;
        self.objects.clear();
    }

    fn restart(&mut self) {
        self.stop();
        self.start();
    }

    fn take(&mut self, events: Vec<ObjectEvent>) {
        for event in events {
            match event {
                ObjectEvent::Apply(object) => {
                    *self.objects.entry(object.key().name).or_default() += 1;
                }
                ObjectEvent::Delete(key) => {
                    assert!(
                        self.objects.remove(&key.name).is_some(),
                        "{key} was not there"
                    );
                    self.deleted.push(key.name);
                }
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        self.objects.keys().map(String::as_str).collect()
    }

    fn until(&mut self, names: &[&str]) {
        while self.names() != names {
            self.next(&format!("{names:?}"));
        }
    }

    fn until_page(&mut self, good: impl Fn(&ObjectsPage) -> bool) {
        let deadline = clock::now() + PATIENCE;
        self.look();
        while !good(&self.page) {
            assert!(clock::now() < deadline, "{self:?}");
            let (_, inbox) = self.source.as_ref().unwrap();
            if let Ok(events) = inbox.recv_timeout(Duration::from_millis(5)) {
                self.take(events);
            }
            self.look();
        }
    }

    /// Takes the page, and the updates before it.
    fn look(&mut self) {
        let (handle, inbox) = self.source.as_ref().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        self.page = runtime.block_on(handle.pages().get()).unwrap();
        for events in inbox.try_iter().collect::<Vec<_>>() {
            self.take(events);
        }
    }

    fn next(&mut self, wanted: &str) {
        let (_, inbox) = self.source.as_ref().unwrap();
        let events = inbox.recv_timeout(PATIENCE);
        let events = events.unwrap_or_else(|_| panic!("{wanted} never came: {self:?}"));
        self.take(events);
    }

    fn never_deleted(&self, name: &str) {
        assert!(
            !self.deleted.iter().any(|deleted| deleted == name),
            "{:?}",
            self.deleted
        );
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {:?}", self.names(), self.page)
    }
}

fn namespace(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

//! The terminal example, drawn into memory.

#[path = "../../examples/watch/app.rs"]
mod app;

use app::App;
use proxmox_api::Client;
use proxmox_simulator::{Fault, Simulator, last_of_each_major};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use crate::support::start;

fn picture(app: &App) -> String {
    let mut terminal = Terminal::new(TestBackend::new(90, 28)).expect("memory");
    terminal.draw(|frame| app.draw(frame)).expect("memory");
    terminal.backend().to_string()
}

async fn poll_and_draw(app: &mut App, pve: &Client) -> String {
    let news = app.wish().ask(pve).await;
    app.hear(news);
    picture(app)
}

#[tokio::test]
async fn keys_control_the_view_of_a_cluster() {
    for release in last_of_each_major() {
        let builder = Simulator::builder()
            .release(release)
            .node("alpha")
            .node("beta")
            .qemu(101, "alpha", &[("name", "web")])
            .running(101);
        let (simulator, pve) = start(builder).await;
        let mut app = App::default();
        let screen = poll_and_draw(&mut app, &pve).await;
        for text in [
            "alpha",
            "beta",
            "online",
            "qemu/101",
            "web",
            "processors of alpha",
            "an hour ago",
        ] {
            assert!(screen.contains(text), "{release}: {text} in\n{screen}");
        }
        // A line is drawn in braille dots.
        assert!(
            screen
                .chars()
                .any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)),
            "{release}\n{screen}"
        );

        assert!(app.press(KeyCode::Down), "another node is asked for");
        assert!(
            poll_and_draw(&mut app, &pve)
                .await
                .contains("processors of beta")
        );
        assert!(!app.press(KeyCode::Right), "that is there already");
        assert!(picture(&app).contains("memory of beta"));
        assert!(app.press(KeyCode::Char('t')));
        let screen = poll_and_draw(&mut app, &pve).await;
        assert!(screen.contains("a day ago"), "{release}\n{screen}");
        let requests = simulator.requests();
        let mut charts = requests
            .iter()
            .filter(|request| request.path == "/nodes/beta/rrddata");
        let last = charts.next_back().expect("the node was asked");
        assert_eq!(last.params["timeframe"], "day", "{release}");

        // An offline node is shown as such, without metrics.
        simulator.set_online("beta", false);
        let path = "/nodes/beta/rrddata";
        simulator.faults().on("GET", path).respond(Fault::NodeDown);
        let screen = poll_and_draw(&mut app, &pve).await;
        assert!(screen.contains("away"), "{release}\n{screen}");
        // Errors are shown, and the last data stays.
        let gone = Fault::Status(500, "no quorum".into());
        let list = simulator.faults().on("GET", "/cluster/resources");
        let list = list.respond(gone);
        let screen = poll_and_draw(&mut app, &pve).await;
        assert!(
            screen.contains("no quorum") && screen.contains("alpha"),
            "{release}\n{screen}"
        );
        list.remove();
        assert!(!poll_and_draw(&mut app, &pve).await.contains("no quorum"));
        assert!(app.press(KeyCode::Up));
        assert!(picture(&app).contains("memory of alpha"));
        app.press(KeyCode::Char('q'));
        assert!(app.done);
    }
}

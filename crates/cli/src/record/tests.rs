use super::*;

#[test]
fn durations_are_said_as_people_say_them() {
    for (duration, text) in [
        (Duration::from_millis(31), "31 ms"),
        (Duration::from_millis(1420), "1.4 s"),
        (Duration::from_secs(7), "7 s"),
        (Duration::from_secs(125), "2 min 5 s"),
        (Duration::from_secs(12_000), "3 h 20 min"),
    ] {
        assert_eq!(human_duration(duration), text);
    }
}

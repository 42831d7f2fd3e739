//! The stand-in for BlueZ, seen through D-Bus alone: it shows what BlueZ shows, so that what is tested against it meets
//! no surprise in a home.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use hearthkey::sim::bluez::{Air, Failing, Peripheral, Power};
use hearthkey::sim::gatt::GattDevice;
use hearthkey::sim::identity::DeviceSecret;
use hearthkey::sim::improv::{self, Improv};
use hearthkey::sim::pairing;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};
use zbus::names::InterfaceName;
use zbus::zvariant::{ObjectPath, OwnedValue, Value};
use zbus::{Connection, MatchRule, Message, MessageStream, Proxy};

const ADDRESS: &str = "AA:BB:CC:DD:EE:01";
const DEVICE: &str = "/org/bluez/hci0/dev_AA_BB_CC_DD_EE_01";

type Dictionary = HashMap<String, OwnedValue>;

/// A client of the bus.
struct Client {
    connection: Connection,
    signals: MessageStream,
}

impl Client {
    async fn new(air: &Air) -> Self {
        let connection = zbus::connection::Builder::address(air.address()).unwrap().build().await.unwrap();
        let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).build();
        let signals = MessageStream::for_match_rule(rule, &connection, Some(1024)).await.unwrap();
        Self { connection, signals }
    }

    async fn proxy(&self, path: &str, interface: &str) -> Proxy<'static> {
        let proxy = zbus::proxy::Builder::<Proxy<'static>>::new(&self.connection);
        let proxy = proxy.destination("org.bluez").unwrap().path(path.to_owned()).unwrap().interface(interface.to_owned()).unwrap();
        proxy.cache_properties(zbus::proxy::CacheProperties::No).build().await.unwrap()
    }

    async fn call(&self, path: &str, interface: &str, method: &str) -> zbus::Result<()> {
        self.proxy(path, interface).await.call(method.to_owned(), &()).await
    }

    async fn adapter(&self, method: &str) -> zbus::Result<()> {
        self.call("/org/bluez/hci0", "org.bluez.Adapter1", method).await
    }

    async fn device(&self, method: &str) -> zbus::Result<()> {
        self.call(DEVICE, "org.bluez.Device1", method).await
    }

    async fn objects(&self) -> Vec<String> {
        let manager = ObjectManagerProxy::new(&self.connection, "org.bluez", "/").await.unwrap();
        let objects = manager.get_managed_objects().await.unwrap();
        // Nodes on the way to an object are listed without an interface.
        let real = objects.iter().filter(|(_, interfaces)| interfaces.keys().any(|name| name.starts_with("org.bluez")));
        real.map(|(path, _)| path.to_string()).collect()
    }

    async fn all(&self, path: &str, interface: &str) -> Dictionary {
        let path = ObjectPath::try_from(path.to_owned()).unwrap();
        let properties = PropertiesProxy::builder(&self.connection).destination("org.bluez").unwrap().path(path).unwrap();
        let properties = properties.build().await.unwrap();
        properties.get_all(InterfaceName::try_from(interface.to_owned()).unwrap()).await.unwrap()
    }

    /// The next signal of this name from this path that says what is wanted.
    async fn until<T>(&mut self, path: &str, member: &str, wanted: impl Fn(&Message) -> Option<T>) -> T {
        let found = async {
            loop {
                let signal = self.signals.next().await.expect("the bus lives").expect("a signal");
                let header = signal.header();
                let here = header.path().is_some_and(|found| found.as_str() == path);
                if here
                    && header.member().is_some_and(|found| found.as_str() == member)
                    && let Some(found) = wanted(&signal)
                {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(30), found).await.expect("the signal comes")
    }

    async fn until_changed(&mut self, path: &str, property: &str) -> OwnedValue {
        self.until(path, "PropertiesChanged", |signal| {
            let (_, mut changed, _): (String, Dictionary, Vec<String>) = signal.body().deserialize().ok()?;
            changed.remove(property)
        })
        .await
    }

    async fn until_appeared(&mut self, path: &str) -> HashMap<String, Dictionary> {
        self.until("/", "InterfacesAdded", |signal| {
            let (found, interfaces): (zbus::zvariant::OwnedObjectPath, HashMap<String, Dictionary>) = signal.body().deserialize().ok()?;
            (found.as_str() == path).then_some(interfaces)
        })
        .await
    }
}

fn put(air: &Air, device: impl GattDevice + 'static, mtu: u16) {
    let failing = Failing::default();
    let peripheral = Peripheral { name: Some("Plug".into()), address: ADDRESS.into(), mtu, rssi: -47, device: Box::new(device), failing };
    air.add_device(peripheral).unwrap();
}

/// The air, a client that looks for devices, and a device that it has found.
async fn found(device: impl GattDevice + 'static, mtu: u16) -> (Air, Client, HashMap<String, Dictionary>) {
    let air = Air::start().await.unwrap();
    put(&air, device, mtu);
    let mut client = Client::new(&air).await;
    client.adapter("StartDiscovery").await.unwrap();
    let appeared = client.until_appeared(DEVICE).await;
    (air, client, appeared)
}

async fn connect(client: &mut Client) {
    client.device("Connect").await.unwrap();
    while client.until_changed(DEVICE, "ServicesResolved").await != OwnedValue::from(true) {}
}

fn pairing_device() -> (pairing::Front, pairing::Host) {
    let secret = r#"{"v":1,"device_id":"lamp-1","brand":"acme","model":"lamp","hardware":"A","serial":"1",
        "device_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#;
    pairing::device(pairing::Options::new(DeviceSecret::parse(secret.as_bytes()).unwrap())).unwrap()
}

#[tokio::test]
async fn a_device_is_found_with_what_it_advertises_and_only_while_somebody_looks() {
    let (front, _host) = pairing_device();
    let (_air, client, appeared) = found(front, 247).await;
    let device = &appeared["org.bluez.Device1"];
    assert_eq!(String::try_from(device["Name"].clone()).unwrap(), "Plug");
    assert_eq!(i16::try_from(device["RSSI"].clone()).unwrap(), -47);
    let data: HashMap<String, OwnedValue> = device["ServiceData"].clone().try_into().unwrap();
    let info: Vec<u8> = data["ac9443d2-687c-4c4c-aa78-2d61b4d36cd2"].clone().try_into().unwrap();
    assert_eq!((info.len(), &info[..2]), (12, &[1, 1][..]));
    assert!(client.adapter("StartDiscovery").await.is_err_and(|e| e.to_string().contains("org.bluez.Error.InProgress")));
    client.adapter("StopDiscovery").await.unwrap();
    let known = client.all(DEVICE, "org.bluez.Device1").await;
    assert!(!known.contains_key("RSSI") && known.contains_key("ServiceData"));
}

#[tokio::test]
async fn a_filter_lets_through_who_lists_the_service_and_nobody_who_only_has_data_of_it() {
    let air = Air::start().await.unwrap();
    let mut client = Client::new(&air).await;
    let adapter = client.proxy("/org/bluez/hci0", "org.bluez.Adapter1").await;
    let wanted = vec!["ac9443d2-687c-4c4c-aa78-2d61b4d36cd2", "00467768-6228-2272-4663-277478268000"];
    let filter = HashMap::from([("UUIDs", Value::from(wanted)), ("DuplicateData", Value::from(true))]);
    adapter.call::<_, _, ()>("SetDiscoveryFilter", &(filter,)).await.unwrap();
    client.adapter("StartDiscovery").await.unwrap();
    put(&air, pairing_device().0, 247);
    let listed = Peripheral {
        name: None,
        address: "AA:BB:CC:DD:EE:02".into(),
        mtu: 23,
        rssi: -80,
        device: Box::new(Improv::new(improv::Options::default())),
        failing: Failing::default(),
    };
    air.add_device(listed).unwrap();
    client.until_appeared("/org/bluez/hci0/dev_AA_BB_CC_DD_EE_02").await;
    assert!(!client.objects().await.contains(&DEVICE.to_owned()));
}

#[tokio::test]
async fn services_come_with_a_connection_and_go_with_it() {
    let (front, host) = pairing_device();
    let shutdown = CancellationToken::new();
    let (events, _watched) = tokio::sync::mpsc::channel(64);
    let life = tokio::spawn(host.run(events, shutdown.clone()));
    let (air, mut client, _) = found(front, 23).await;
    assert_eq!(client.objects().await.len(), 2);
    connect(&mut client).await;
    assert!(client.device("Connect").await.is_err_and(|e| e.to_string().contains("org.bluez.Error.AlreadyConnected")));
    let objects = client.objects().await;
    assert_eq!(objects.len(), 6, "{objects:?}");

    let mut by_uuid = HashMap::new();
    for path in objects.iter().filter(|path| path.contains("/char")) {
        let properties = client.all(path, "org.bluez.GattCharacteristic1").await;
        assert_eq!(u16::try_from(properties["MTU"].clone()).unwrap(), 23);
        let flags: Vec<String> = properties["Flags"].clone().try_into().unwrap();
        by_uuid.insert(String::try_from(properties["UUID"].clone()).unwrap(), (path.clone(), flags.join(" ")));
    }
    let (rx, flags) = by_uuid["436c5d49-3b6f-44e0-83ae-a02fda7273f0"].clone();
    assert_eq!(flags, "write");
    let (info, flags) = by_uuid["e18042a9-450a-4bfd-b00a-c2c835c5c68a"].clone();
    assert_eq!(flags, "read");

    // A read also shows as a change, as with the real one.
    let read = client.proxy(&info, "org.bluez.GattCharacteristic1").await;
    let value: Vec<u8> = read.call("ReadValue", &(HashMap::<String, Value<'_>>::new(),)).await.unwrap();
    let shown: Vec<u8> = client.until_changed(&info, "Value").await.try_into().unwrap();
    assert_eq!(value, shown);

    let write = client.proxy(&rx, "org.bluez.GattCharacteristic1").await;
    let options = || HashMap::from([("type", Value::from("request"))]);
    let long = write.call::<_, _, ()>("WriteValue", &(vec![0u8; 21], options())).await;
    assert!(long.is_err_and(|e| e.to_string().contains("org.bluez.Error.InvalidValueLength")));
    let command = HashMap::from([("type", Value::from("command"))]);
    let command = write.call::<_, _, ()>("WriteValue", &(vec![0u8; 20], command)).await;
    assert!(command.is_err_and(|e| e.to_string().contains("org.bluez.Error.NotPermitted")));
    assert!(air.connected(ADDRESS));

    // What is no message ends the connection from the device's side, and the objects go.
    write.call::<_, _, ()>("WriteValue", &(vec![0u8; 20], options())).await.unwrap();
    while client.until_changed(DEVICE, "Connected").await != OwnedValue::from(false) {}
    assert_eq!(client.objects().await.len(), 2);
    assert!(client.device("Disconnect").await.is_err());
    assert!(client.device("Connect").await.is_err_and(|e| e.to_string().contains("le-connection-abort")), "it waits a second");
    shutdown.cancel();
    life.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_network_is_given_over_improv() {
    let plug = Improv::new(improv::Options::default());
    let (_air, mut client, appeared) = found(plug.clone(), 185).await;
    let data: HashMap<String, OwnedValue> = appeared["org.bluez.Device1"]["ServiceData"].clone().try_into().unwrap();
    let state: Vec<u8> = data["00004677-0000-1000-8000-00805f9b34fb"].clone().try_into().unwrap();
    assert_eq!(state, [improv::AUTHORIZED, 7, 0, 0, 0, 0]);
    connect(&mut client).await;
    let mut paths = HashMap::new();
    for path in client.objects().await.into_iter().filter(|path| path.contains("/char")) {
        let uuid = client.all(&path, "org.bluez.GattCharacteristic1").await["UUID"].clone();
        paths.insert(String::try_from(uuid).unwrap(), path);
    }
    let result = paths[&improv::RESULT.to_string()].clone();
    client.call(&result, "org.bluez.GattCharacteristic1", "StartNotify").await.unwrap();
    let command = client.proxy(&paths[&improv::COMMAND.to_string()], "org.bluez.GattCharacteristic1").await;
    let value = improv::frame(1, &["Hearth", "correct horse"]);
    command.call::<_, _, ()>("WriteValue", &(value, HashMap::<String, Value<'_>>::new())).await.unwrap();
    let answer: Vec<u8> = client.until_changed(&result, "Value").await.try_into().unwrap();
    assert_eq!(answer, improv::frame(1, &["http://192.0.2.9/"]));
    assert_eq!(plug.joined().as_deref(), Some("Hearth"));
}

#[tokio::test]
async fn an_adapter_is_switched_off_blocked_and_pulled_out() {
    let (air, mut client, _) = found(Improv::new(improv::Options::default()), 247).await;
    connect(&mut client).await;
    let adapter = client.proxy("/org/bluez/hci0", "org.bluez.Adapter1").await;
    adapter.set_property("Powered", false).await.unwrap();
    while client.until_changed(DEVICE, "Connected").await != OwnedValue::from(false) {}
    assert!(client.adapter("StartDiscovery").await.is_err_and(|e| e.to_string().contains("org.bluez.Error.NotReady")));
    assert!(client.device("Connect").await.is_err_and(|e| e.to_string().contains("org.bluez.Error.NotReady")));
    air.set_power("hci0", Power::Blocked).unwrap();
    assert!(adapter.set_property("Powered", true).await.is_err_and(|e| e.to_string().contains("rfkill")));
    air.set_power("hci0", Power::Off).unwrap();
    adapter.set_property("Powered", true).await.unwrap();
    assert!(adapter.get_property::<bool>("Powered").await.unwrap());
    air.remove_adapter("hci0").unwrap();
    client
        .until("/", "InterfacesRemoved", |signal| {
            let (path, _): (zbus::zvariant::OwnedObjectPath, Vec<String>) = signal.body().deserialize().ok()?;
            (path.as_str() == "/org/bluez/hci0").then_some(())
        })
        .await;
    assert!(client.objects().await.is_empty());
    air.add_adapter("hci1", Power::On).unwrap();
    client.until_appeared("/org/bluez/hci1").await;
}

#[tokio::test]
async fn bluez_dies_and_comes_back_knowing_nothing() {
    let (air, mut client, _) = found(Improv::new(improv::Options::default()), 247).await;
    connect(&mut client).await;
    air.kill_daemon().await;
    let gone = |signal: &Message| {
        let (name, _, new): (String, String, String) = signal.body().deserialize().ok()?;
        (name == "org.bluez" && new.is_empty()).then_some(())
    };
    client.until("/org/freedesktop/DBus", "NameOwnerChanged", gone).await;
    assert!(client.adapter("StartDiscovery").await.is_err());
    assert!(!air.connected(ADDRESS));
    air.start_daemon().await.unwrap();
    client.until_appeared("/org/bluez/hci0").await;
    client.adapter("StartDiscovery").await.unwrap();
    client.until_appeared(DEVICE).await;

    // The whole bus, too.
    air.kill_bus().await;
    air.start_bus().await.unwrap();
    let mut client = Client::new(&air).await;
    client.adapter("StartDiscovery").await.unwrap();
    client.until_appeared(DEVICE).await;
}

#[tokio::test]
async fn what_is_to_fail_fails() {
    let (air, mut client, _) = found(Improv::new(improv::Options::default()), 247).await;
    air.set_failing(ADDRESS, Failing { connects: 1, link_breaks_after: Some(0), ..Failing::default() }).unwrap();
    assert!(client.device("Connect").await.is_err());
    connect(&mut client).await;
    let mut command = None;
    for path in client.objects().await.into_iter().filter(|path| path.contains("/char")) {
        if String::try_from(client.all(&path, "org.bluez.GattCharacteristic1").await["UUID"].clone()).unwrap()
            == improv::COMMAND.to_string()
        {
            command = Some(path);
        }
    }
    let command = client.proxy(&command.unwrap(), "org.bluez.GattCharacteristic1").await;
    let written = command.call::<_, _, ()>("WriteValue", &(vec![2u8, 0, 2], HashMap::<String, Value<'_>>::new())).await;
    assert!(written.is_err_and(|e| e.to_string().contains("org.bluez.Error.NotConnected")));
    air.set_failing(ADDRESS, Failing { out_of_reach: true, ..Failing::default() }).unwrap();
    assert!(client.device("Connect").await.is_err());
}

//! UUIDs and messaging methods: `uuid` and `messaging-method` at the root (binding 1.0), or the `services` node (1.1).

use super::{MAX_SERVICES, MessagingMethod, Service};
use crate::manifest::diagnostic::Value;
use crate::manifest::tree::{At, Node, Path, Prop, Sink, to_u16};
use alloc::vec::Vec;
use arm_ffa::Version;
use uuid::{Uuid, Variant};

/// What a `services` node holds.
pub(super) type Uuids = Vec<Service>;

/// What a messaging method may be.
const METHODS: &str = "bits 0, 1 (direct requests), 2 (indirect messages), 9 and 10 (direct requests 2) only";

/// Characters of a canonical UUID.
const CANONICAL: usize = 36;

/// Reads the `services` node. `None` after an error.
pub(super) fn read_node(node: &Node<'_>, sink: &mut Sink<'_>) -> Option<Uuids> {
    let mut compatible = None;
    for property in node.properties() {
        match property.name() {
            "compatible" => compatible = Some(property),
            _ => property.unknown(sink, &[]),
        }
    }
    let mut ok = node.check_compatible(compatible, "arm,ffa-manifest-services", sink);
    let mut services = Vec::new();
    for child in node.children() {
        if services.len() == MAX_SERVICES {
            sink.error(node.here(), format_args!("expected at most {MAX_SERVICES} services"));
            return None;
        }
        match service(&child, sink) {
            Some(service) => add(&mut services, &service, child.path.property("uuid"), sink),
            None => ok = false,
        }
    }
    if services.is_empty() && ok {
        sink.error(node.here(), format_args!("expected at least one service"));
        ok = false;
    }
    ok.then_some(services)
}

/// One child of the `services` node.
fn service(node: &Node<'_>, sink: &mut Sink<'_>) -> Option<Service> {
    let (mut uuid, mut method) = (None, None);
    for property in node.properties() {
        match property.name() {
            "uuid" => uuid = Some(property),
            "messaging-method" => method = Some(property),
            "description" => {}
            _ => property.unknown(sink, &["uuid", "messaging-method", "description"]),
        }
    }
    node.no_children(sink);
    if uuid.is_none() {
        node.path.missing("uuid", "a canonical UUID string", sink);
    }
    if method.is_none() {
        node.path.missing("messaging-method", METHODS, sink);
    }
    let (uuid, method) = uuid.zip(method)?;
    let uuid = canonical(&uuid, sink);
    let messaging = method.hex(sink, messaging_method, METHODS);
    Some(Service {
        uuid: uuid?,
        messaging: messaging?,
    })
}

/// A UUID as a string, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
fn canonical(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<Uuid> {
    let uuid = property
        .strings()
        .next()
        .filter(|text| text.len() == CANONICAL && property.len() == CANONICAL.saturating_add(1))
        .and_then(parse_canonical);
    if uuid.is_none() {
        property.expected(
            "a canonical UUID string, \"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx\"",
            sink,
        );
    }
    uuid
}

/// The UUID of a canonical string. The library's parser takes other forms too, and so four times the code.
fn parse_canonical(text: &[u8]) -> Option<Uuid> {
    let mut value = 0_u128;
    for (index, &byte) in text.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            (byte == b'-').then_some(())?;
        } else {
            value = value << 4 | u128::from(char::from(byte).to_digit(16)?);
        }
    }
    Some(Uuid::from_u128(value))
}

fn messaging_method(bits: u64) -> Option<MessagingMethod> {
    to_u16(bits).and_then(MessagingMethod::from_bits)
}

/// Adds `service` unless its UUID is nil or there already.
fn add(services: &mut Vec<Service>, service: &Service, at: At<'_>, sink: &mut Sink<'_>) {
    let at = at.value(Value::Uuid(&service.uuid));
    if service.uuid.is_nil() {
        sink.error(at, format_args!("expected a UUID that is not nil"));
    } else if services.iter().any(|other| other.has(&service.uuid)) {
        sink.error(at, format_args!("expected each UUID once"));
    } else {
        services.push(*service);
    }
}

/// Brings together what the manifest said about its services. Empty after an error.
pub(super) fn pair(
    uuid: Option<Prop<'_>>,
    method: Option<Prop<'_>>,
    services: Option<Uuids>,
    binding: Option<Version>,
    sink: &mut Sink<'_>,
) -> Vec<Service> {
    if let Some(services) = services {
        beside_services(uuid, method, &services, sink);
        return services;
    }
    if sink.failed() && uuid.is_none() && binding != Some(Version(1, 0)) {
        return Vec::new();
    }
    let (Some(uuid), Some(method)) = (uuid, method) else {
        missing(uuid.is_some(), method.is_some(), binding, sink);
        return Vec::new();
    };
    if binding == Some(Version(1, 1)) {
        sink.warn(
            uuid.place(),
            format_args!("binding 1.1 expects a services node instead"),
        );
    }
    let uuids = tuples(&uuid, sink);
    let methods = methods(&method, sink);
    match (uuids, methods) {
        (Some(uuids), Some(methods)) => zip(uuids, &methods, &uuid, &method, sink),
        _ => Vec::new(),
    }
}

/// Warns of properties of binding 1.0 beside a services node. One of the services' UUIDs in `uuid` is fine: TF-A's
/// tools read it there to name the package.
fn beside_services(uuid: Option<Prop<'_>>, method: Option<Prop<'_>>, services: &[Service], sink: &mut Sink<'_>) {
    if let Some(method) = method {
        sink.warn(
            method.place(),
            format_args!("ignored: the services node says it for each service"),
        );
    }
    let Some(property) = uuid else { return };
    for other in &tuples(&property, sink).unwrap_or_default() {
        if !services.iter().any(|service| service.has(&other.uuid)) {
            sink.warn(
                property.place().value(Value::Uuid(&other.uuid)),
                format_args!("ignored: none of the services has it"),
            );
        }
    }
}

/// Reports what is not there at all.
fn missing(uuid: bool, method: bool, binding: Option<Version>, sink: &mut Sink<'_>) {
    if binding == Some(Version(1, 1)) && !uuid {
        sink.error(
            Path::ROOT.join("services").here(),
            format_args!("missing, expected the node, with a child for each service"),
        );
        return;
    }
    if !uuid {
        Path::ROOT.missing("uuid", "four 32-bit cells for each UUID", sink);
    }
    if !method {
        Path::ROOT.missing("messaging-method", "one for all UUIDs, or one for each", sink);
    }
}

/// `uuid` as groups of four cells, still without messaging methods. The bytes of each cell are the UUID's in reverse: the
/// words are those that FF-A passes in registers.
fn tuples(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<Uuids> {
    let groups = property.groups::<4>(sink, MAX_SERVICES, "four 32-bit cells for each UUID")?;
    let mut uuids = Vec::with_capacity(groups.len());
    for words in groups {
        let uuid = from_words(words.map(u32::swap_bytes));
        let unswapped = from_words(words);
        if !is_rfc(&uuid) && is_rfc(&unswapped) {
            sink.warn(
                property.place().value(Value::Uuid(&uuid)),
                format_args!(
                    "unlikely UUID; for {} the bytes of each cell must be reversed",
                    Value::Uuid(&unswapped)
                ),
            );
        }
        uuids.push(Service {
            uuid,
            messaging: MessagingMethod::empty(),
        });
    }
    Some(uuids)
}

/// The UUID whose bytes are those of `words`, most significant first.
#[inline(never)]
fn from_words(words: [u32; 4]) -> Uuid {
    let mut bytes = [0; 16];
    for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
    Uuid::from_bytes(bytes)
}

/// Whether the UUID's variant and version are ones that RFC 9562 defines.
fn is_rfc(uuid: &Uuid) -> bool {
    uuid.get_variant() == Variant::RFC4122 && (1..=8).contains(&uuid.get_version_num())
}

/// `messaging-method`: one value, or one for each UUID.
fn methods(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<Vec<MessagingMethod>> {
    if matches!(property.len(), 1 | 2) {
        return property
            .hex(sink, messaging_method, METHODS)
            .map(|method| [method].into());
    }
    let mut methods = Vec::new();
    for cell in property.list(sink, MAX_SERVICES, "one 32-bit cell, or one for each UUID") {
        match messaging_method(cell.into()) {
            Some(method) => methods.push(method),
            None => {
                property.refuse(Value::Hex(cell.into()), METHODS, sink);
                return None;
            }
        }
    }
    if methods.is_empty() {
        return None;
    }
    Some(methods)
}

/// Gives each UUID its messaging method.
fn zip(
    mut uuids: Uuids,
    methods: &[MessagingMethod],
    uuid: &Prop<'_>,
    method: &Prop<'_>,
    sink: &mut Sink<'_>,
) -> Vec<Service> {
    let mut services = Vec::with_capacity(uuids.len());
    let one_for_all = methods.first().filter(|_| methods.len() == 1);
    if one_for_all.is_none() && methods.len() != uuids.len() {
        sink.error(
            method.at(),
            format_args!("expected one value, or one for each of the {} UUIDs", uuids.len()),
        );
        return services;
    }
    for (index, service) in uuids.iter_mut().enumerate() {
        if let Some(&messaging) = one_for_all.or(methods.get(index)) {
            service.messaging = messaging;
            add(&mut services, service, uuid.place(), sink);
        }
    }
    services
}

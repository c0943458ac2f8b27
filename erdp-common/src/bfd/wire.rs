//! A BFD control packet (RFC 5880 section 4.1): bytes <-> type, with the checks of section 6.8.6 that need no session.
//!
//! ```text
//! |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |   My Discriminator
//! |   Your Discriminator          |    Desired Min TX Interval    |   Required Min RX Interval | Required Min Echo RX Interval
//! ```
//! Authentication (section 6.7) is not offered: a packet that has it is discarded, as the RFC orders where none is in use. BFD on
//! one hop is guarded by the hop limit of 255 (RFC 5881 section 5).

/// Bytes of a packet without authentication.
pub const BYTES: usize = 24;

const VERSION: u8 = 1;
const POLL: u8 = 1 << 5;
const FINAL: u8 = 1 << 4;
const CONTROL_PLANE_INDEPENDENT: u8 = 1 << 3;
const AUTHENTICATION: u8 = 1 << 2;
const DEMAND: u8 = 1 << 1;
const MULTIPOINT: u8 = 1;

/// The state of a session (section 4.1).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "std", derive(PartialOrd, Ord))]
pub enum State {
    /// Taken down by an operator.
    AdminDown = 0,
    /// No session, or a new one.
    Down = 1,
    /// The peer is heard and does not hear us yet.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

impl State {
    /// Of the two bits.
    #[inline(always)]
    pub fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    /// The RFC's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        }
    }
}

/// Why a packet is discarded (section 6.8.6); in the order of the RFC's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The version is not 1.
    Version,
    /// The length is below the header's or above the payload's.
    Length,
    /// The detect multiplier is zero.
    Multiplier,
    /// The multipoint bit is set.
    Multipoint,
    /// The sender's discriminator is zero.
    MyDiscriminator,
    /// Ours is zero, and the sender's state is one in which it knows it.
    YourDiscriminator,
    /// It is authenticated, and no authentication is in use.
    Authentication,
}

/// A control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPacket {
    /// Why the sender's session went down last (section 4.1).
    pub diagnostic: u8,
    /// The sender's state.
    pub state: State,
    /// The sender wants an answer with [`Self::is_final`].
    pub poll: bool,
    /// It is that answer.
    pub is_final: bool,
    /// The sender's BFD lives on when its control plane does not.
    pub is_independent: bool,
    /// The sender wants us to be silent while all is well.
    pub demand: bool,
    /// The detection time is so many intervals.
    pub multiplier: u8,
    /// The sender's discriminator; never zero.
    pub my_discriminator: u32,
    /// Ours, as the sender knows it; zero: not yet.
    pub your_discriminator: u32,
    /// How often the sender would like to send, in microseconds.
    pub desired_min_tx_us: u32,
    /// How often it can receive, in microseconds; zero: it wants no packets.
    pub required_min_rx_us: u32,
    /// How often it can receive echo packets; zero: never.
    pub required_min_echo_rx_us: u32,
}

impl ControlPacket {
    /// Of the first 24 bytes of a UDP payload of `payload_len` bytes.
    #[inline(always)]
    pub fn parse(words: [[u8; 8]; 3], payload_len: usize) -> Result<Self, Malformed> {
        let [[first, flags, multiplier, len, a, b, c, d], [e, f, g, h, i, j, k, l], [m, n, o, p, q, r, s, t]] =
            words;
        let packet = Self {
            diagnostic: first & 0x1f,
            state: State::from_bits(flags >> 6),
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            is_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier,
            my_discriminator: u32::from_be_bytes([a, b, c, d]),
            your_discriminator: u32::from_be_bytes([e, f, g, h]),
            desired_min_tx_us: u32::from_be_bytes([i, j, k, l]),
            required_min_rx_us: u32::from_be_bytes([m, n, o, p]),
            required_min_echo_rx_us: u32::from_be_bytes([q, r, s, t]),
        };
        if first >> 5 != VERSION {
            return Err(Malformed::Version);
        }
        if usize::from(len) < BYTES || usize::from(len) > payload_len {
            return Err(Malformed::Length);
        }
        if multiplier == 0 {
            return Err(Malformed::Multiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        if packet.my_discriminator == 0 {
            return Err(Malformed::MyDiscriminator);
        }
        if packet.your_discriminator == 0 && flags >> 6 > State::Down as u8 {
            return Err(Malformed::YourDiscriminator);
        }
        if flags & AUTHENTICATION != 0 {
            return Err(Malformed::Authentication);
        }
        Ok(packet)
    }

    /// The same of a whole UDP payload.
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let (words, _) = payload.as_chunks::<8>();
        let [first, second, third, ..] = words else { return Err(Malformed::Length) };
        Self::parse([*first, *second, *third], payload.len())
    }

    /// Its bytes.
    pub fn words(&self) -> [[u8; 8]; 3] {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = (self.state as u8) << 6
            | bit(self.poll, POLL)
            | bit(self.is_final, FINAL)
            | bit(self.is_independent, CONTROL_PLANE_INDEPENDENT)
            | bit(self.demand, DEMAND);
        let pair = |high: u32, low: u32| (u64::from(high) << 32 | u64::from(low)).to_be_bytes();
        let head =
            u32::from_be_bytes([VERSION << 5 | self.diagnostic & 0x1f, flags, self.multiplier, BYTES as u8]);
        [
            pair(head, self.my_discriminator),
            pair(self.your_discriminator, self.desired_min_tx_us),
            pair(self.required_min_rx_us, self.required_min_echo_rx_us),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{ControlPacket, Malformed, State};

    fn packet() -> ControlPacket {
        ControlPacket {
            diagnostic: 1,
            state: State::Up,
            poll: true,
            is_final: false,
            is_independent: true,
            demand: false,
            multiplier: 3,
            my_discriminator: 0x0102_0304,
            your_discriminator: 0x0506_0708,
            desired_min_tx_us: 300_000,
            required_min_rx_us: 50_000,
            required_min_echo_rx_us: 0,
        }
    }

    #[test]
    fn the_bytes_are_those_of_section_4_1() {
        let bytes = packet().words().concat();
        assert_eq!(bytes[..12], [0x21, 0xe8, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[12..], [0, 0x04, 0x93, 0xe0, 0, 0, 0xc3, 0x50, 0, 0, 0, 0]);
        assert_eq!(ControlPacket::read(&bytes), Ok(packet()));
    }

    /// RFC 5880 section 6.8.6, each check once: byte, its new value, what is said.
    #[test]
    fn each_check_of_section_6_8_6_refuses() {
        for (at, value, why) in [
            (0, 0x01, Malformed::Version),
            (0, 0x41, Malformed::Version),
            (3, 23, Malformed::Length),
            (3, 25, Malformed::Length),
            (2, 0, Malformed::Multiplier),
            (1, 0xc1, Malformed::Multipoint),
            (1, 0xc4, Malformed::Authentication),
        ] {
            let mut bytes = packet().words().concat();
            bytes[at] = value;
            assert_eq!(ControlPacket::read(&bytes), Err(why), "byte {at} = {value}");
        }
        let nameless = ControlPacket { my_discriminator: 0, ..packet() }.words().concat();
        assert_eq!(ControlPacket::read(&nameless), Err(Malformed::MyDiscriminator));
        for state in [State::AdminDown, State::Down, State::Init, State::Up] {
            let unheard = ControlPacket { your_discriminator: 0, state, ..packet() };
            let may_be = matches!(state, State::AdminDown | State::Down);
            let expected = if may_be { Ok(unheard) } else { Err(Malformed::YourDiscriminator) };
            assert_eq!(ControlPacket::read(&unheard.words().concat()), expected);
        }
        assert_eq!(ControlPacket::read(&packet().words().concat()[..23]), Err(Malformed::Length));
    }
}

package wire

// Protocol is the newest version of FlagAdminService that this program speaks,
// OldestProtocol the oldest. A server tells its own two in the handshake; the
// versions that both speak must overlap.
const (
	Protocol       = 1
	OldestProtocol = 1
)

// ProtocolHeader carries Protocol with every request of ours.
const ProtocolHeader = "Bunting-Protocol"

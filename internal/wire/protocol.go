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

// RequestIDHeader carries the id by which a request is found in the logs of every
// server that it came through.
const RequestIDHeader = "X-Request-ID"

// ViaHeader carries the ids of the servers that passed a call on, so that one
// which comes round to where it was does not go round for ever.
const ViaHeader = "Bunting-Via"

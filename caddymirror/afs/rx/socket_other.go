//go:build !linux

package rx

import "net"

func newUDPSocket(conn *net.UDPConn) socket {
	return &plainSocket{udpSender: udpSender{conn}}
}

// One client's connection: reads requests one after the other, answers each, notices when the
// client leaves. A coroutine on the I/O thread. Private to server/ (it shows the socket library).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "server/connection_context.h"

namespace tidemill {

// Ends when either side closes. Never throws.
boost::asio::awaitable<void> serve_connection(boost::asio::ip::tcp::socket socket,
                                              ConnectionContext& context);

}  // namespace tidemill

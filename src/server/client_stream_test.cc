// Deadlines of one connection's reads and writes, on a pair of sockets.
#include "server/client_stream.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <thread>

#include "executor/failing_allocation.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;

class ClientStreamTest : public testing::Test {
 protected:
  ClientStreamTest() {
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0);
    stream_ = std::make_unique<ClientStream>(tcp::socket(io_, tcp::v4(), ends_[0]));
  }
  ~ClientStreamTest() override { ::close(ends_[1]); }

  asio::awaitable<void> read(milliseconds wait) {
    got_ = co_await stream_->read_some(wait, 100);
    done_ = true;
  }

  // Waits for calls, so many times.
  asio::awaitable<void> wait_for_calls(int count) {
    for (int i = 0; i < count; ++i) {
      stream_->alarm()->call_timer.expires_after(std::chrono::hours(1));
      boost::system::error_code error;
      co_await stream_->alarm()->call_timer.async_wait(
          asio::redirect_error(asio::use_awaitable, error));
      ++num_calls_;
    }
    done_ = true;
  }

  int ends_[2] = {};
  std::atomic<int> num_calls_{0};
  std::atomic<bool> given_up_{false};
  asio::io_context io_;
  std::unique_ptr<ClientStream> stream_;
  bool got_ = false, done_ = false;
};

// The text pool calls for each event of a stream; the last call may come when the answer is out,
// and the connection waits for its next request.
TEST_F(ClientStreamTest, H_6_ALateCallOfThePoolEndsNoDeadline) {
  asio::co_spawn(io_, read(milliseconds(50)), asio::detached);
  asio::post(io_, [alarm = stream_->alarm()] { alarm->call(); });
  io_.run_for(std::chrono::seconds(5));
  EXPECT_TRUE(done_) << "the read waits for ever";
  EXPECT_FALSE(got_);
  EXPECT_TRUE(stream_->timed_out());
}

// Whoever has written the end of a stream has nothing to say it with otherwise.
TEST_F(ClientStreamTest, N_3_AnotherThreadCallsWithoutMemory) {
  constexpr int kNumCalls = 1000;
  asio::co_spawn(io_, wait_for_calls(kNumCalls), asio::detached);
  std::thread pool([this] {
    const FailingAllocation failing(0);
    for (int i = 0; i < kNumCalls; ++i) {
      while (num_calls_.load() < i && !given_up_.load()) std::this_thread::yield();
      stream_->alarm()->call_from_any_thread();
    }
    EXPECT_FALSE(FailingAllocation::came()) << "an allocation was tried";
  });
  io_.run_for(std::chrono::seconds(5));
  given_up_ = true;
  pool.join();
  EXPECT_TRUE(done_) << num_calls_.load();
}

TEST_F(ClientStreamTest, ACallThatIsOnItsWayMayOutliveEverything) {
  const auto alarm = stream_->alarm();
  alarm->call_from_any_thread();
  alarm->call_from_any_thread();
}

TEST_F(ClientStreamTest, AReadThatTimedOutLeavesTheSocketOpen) {
  asio::co_spawn(io_, read(milliseconds(10)), asio::detached);
  io_.run_for(std::chrono::seconds(5));
  ASSERT_TRUE(stream_->timed_out());
  ASSERT_EQ(::write(ends_[1], "more", 4), 4);
  io_.restart();
  done_ = false;
  asio::co_spawn(io_, read(milliseconds(5000)), asio::detached);
  io_.run_for(std::chrono::seconds(5));
  EXPECT_TRUE(done_ && got_);
  EXPECT_EQ(stream_->ahead(), "more");
  EXPECT_FALSE(stream_->timed_out());
}

}  // namespace
}  // namespace tidemill

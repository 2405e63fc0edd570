// HTTP for many answers at once on one thread, over libcurl. Not for use by several threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace tidemill {

struct HttpClientOptions {
  std::string url;      // http://HOST:PORT or https://..., without a path's slash at its end
  std::string cacert;   // PEM file of certificates to trust beside the machine's; empty: none
  std::string api_key;  // sent as a bearer; empty: none
  int64_t answer_timeout_ms = 600'000;
};

struct HttpHeadFacts {
  int status = 0;
  std::string_view content_type;
};

// Who hears about one answer, on the client's thread.
struct HttpListener {
  // A piece of the body, as soon as it has been read from the socket. False: leave this answer.
  std::function<bool(const HttpHeadFacts&, std::string_view bytes)> on_bytes;
  // Once, at the end. `failure` is empty when the answer came whole; it says nothing about its
  // status. The head is that of the answer, status 0 when there was none.
  std::function<void(const HttpHeadFacts&, const std::string& failure)> on_end;
};

class HttpClient {
 public:
  explicit HttpClient(HttpClientOptions options);
  ~HttpClient();  // answers that run are left without a word

  // Begins to send. An empty body makes it a GET, else a POST of JSON. The listener is heard only
  // inside work().
  void send(const std::string& path, std::string body, HttpListener listener);
  // Waits until a socket has something or the time is over.
  void wait(std::chrono::milliseconds most);
  // Reads and writes what can be, without waiting; calls listeners, which may call send().
  void work();
  size_t num_running() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill

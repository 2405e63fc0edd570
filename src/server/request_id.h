#pragma once

#include <string>
#include <string_view>

namespace tidemill {

// The client's x-request-id when it is fit to be echoed and logged (apis.md CO-8), else a new UUID.
std::string request_id_for(std::string_view wanted);

// Version 4; any thread.
std::string random_uuid();

}  // namespace tidemill

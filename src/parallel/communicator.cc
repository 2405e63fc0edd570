#include "parallel/communicator.h"

namespace tidemill {

void Communicator::all_reduce_sum(Lane&, float*, int64_t) {}  // one rank: the sum is there

}  // namespace tidemill

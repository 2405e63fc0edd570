// Integer products with AVX-512, for processors without VNNI: a panel's row in a register.
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/integer_vector_avx512.h"
#include "kernels/host/product_maddubs.h"

namespace tidemill::avx512 {

void product_int8(const ProductTile& tile) { maddubs_product<IntegerVector, Int8Planes>(tile); }
void product_int4(const ProductTile& tile) { maddubs_product<IntegerVector, Int4Planes>(tile); }

}  // namespace tidemill::avx512

// Marks functions that host and device code share.
#pragma once

#if defined(__CUDACC__)
#define MEGAMOE_HD __host__ __device__
#else
#define MEGAMOE_HD
#endif

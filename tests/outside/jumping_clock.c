// Preloaded into a server: each look at the wall clock is a day early or a day late. The monotonic
// clocks, and the kernel's own, are as they were.
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long jump(void) {
  static unsigned looks;
  const unsigned mixed = __atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED) * 2654435761u;
  return (mixed >> 20) % 2 == 0 ? 86400 : -86400;
}

int clock_gettime(clockid_t id, struct timespec *now) {
  const long result = syscall(SYS_clock_gettime, id, now);
  if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
  return (int)result;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != NULL) *out = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

// The least that a test needs: EXPECT counts failures and shows values, and main returns the count.

#pragma once

#include <iostream>
#include <sstream>
#include <string>

inline int failures = 0;

template <typename... Values>
std::string describe(const Values&... values) {
  std::ostringstream out;
  ((out << " " << values), ...);
  return out.str();
}

// EXPECT(a == b, a, b) prints the values that follow the condition if it is false.
#define EXPECT(condition, ...)                                                    \
  do {                                                                            \
    if (!(condition)) {                                                           \
      ++failures;                                                                 \
      std::cerr << __FILE__ << ":" << __LINE__ << ": failed: " #condition " with" \
                << describe(__VA_ARGS__) << std::endl;                            \
    }                                                                             \
  } while (false)

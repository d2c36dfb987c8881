// A string that a constructor makes before `main`: empty in a child whose constructors did not run.
#include <string>

static const std::string greeting = std::string("greetings ") + "from C++";

extern "C" unsigned long greeting_length() { return greeting.size(); }

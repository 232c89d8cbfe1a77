#include <string>

#include <gtest/gtest.h>

#include "json_check.hpp"
#include "json_scan.hpp"

using namespace twilio;

namespace {

std::string blanked(std::string json)
{
    const std::size_t size = json.size();
    blankSecrets(json);
    EXPECT_EQ(json.size(), size);
    return json;
}

} // namespace

TEST(JsonScan, findsMembersOfTheOutermostObjectOnly)
{
    const std::string json =
        R"( {"a":{"sid":"inner","code":1},"b":["sid",{"sid":"deep"}],"sid" : "SM1" ,"code":21211})";
    EXPECT_EQ(topLevelString(json, "sid"), "SM1");
    EXPECT_EQ(topLevelInteger(json, "code"), 21211);
    EXPECT_EQ(topLevelString(json, "deep"), std::nullopt);
    EXPECT_EQ(topLevelString(R"([{"sid":"x"}])", "sid"), std::nullopt);
}

TEST(JsonScan, doesNotTakeAValueForAName)
{
    EXPECT_EQ(topLevelString(R"({"a":"sid","sid":"right"})", "sid"), "right");
    EXPECT_EQ(topLevelString(R"({"a":"\"sid\":\"wrong\"","sid":"right"})", "sid"), "right");
}

TEST(JsonScan, takesTheFirstOfAName)
{
    EXPECT_EQ(topLevelString(R"({"sid":"1","sid":"2"})", "sid"), "1");
}

TEST(JsonScan, tellsTypesApart)
{
    EXPECT_EQ(topLevelString(R"({"code":5})", "code"), std::nullopt);
    EXPECT_EQ(topLevelInteger(R"({"code":"5"})", "code"), std::nullopt);
    EXPECT_EQ(topLevelInteger(R"({"code":null})", "code"), std::nullopt);
    EXPECT_EQ(topLevelInteger(R"({"code":1.5})", "code"), std::nullopt);
    EXPECT_EQ(topLevelInteger(R"({"code":1e3})", "code"), std::nullopt);
    EXPECT_EQ(topLevelInteger(R"({"code":99999999999999999999})", "code"), std::nullopt);
    EXPECT_EQ(topLevelInteger(R"({"code":-7})", "code"), -7);
    EXPECT_EQ(topLevelInteger("{\"code\":7\n}", "code"), 7);
    EXPECT_EQ(topLevelInteger(R"({"code":7)", "code"), std::nullopt);
}

TEST(JsonScan, decodesEscapes)
{
    EXPECT_EQ(topLevelString(R"({"m":"a\"b\\c\/d\n\t\r\b\f\u0041\u00e9\ud83d\udc4d"})", "m"),
              "a\"b\\c/d\n\t\r\b\fA\xC3\xA9\xF0\x9F\x91\x8D");
    EXPECT_EQ(topLevelString(R"({"\u0073id":"x"})", "sid"), "x");
}

TEST(JsonScan, replacesWhatPostgresCannotStore)
{
    const std::string replacement = "\xEF\xBF\xBD";
    EXPECT_EQ(topLevelString(R"({"m":"a\u0000b"})", "m"), "a" + replacement + "b");
    EXPECT_EQ(topLevelString(R"({"m":"\ud83d"})", "m"), replacement);
    EXPECT_EQ(topLevelString(R"({"m":"\udc4d\ud83d"})", "m"), replacement + replacement);
    EXPECT_EQ(topLevelString(R"({"m":"\uZZZZ"})", "m"), replacement + "ZZZZ");
    EXPECT_EQ(topLevelString("{\"m\":\"\xFF\xC0\x80\"}", "m"), replacement + replacement + replacement);
    EXPECT_EQ(topLevelString("{\"m\":\"\xED\xA0\x80\"}", "m"), replacement + replacement + replacement);
    EXPECT_EQ(topLevelString("{\"m\":\"\xF0\x9F\x91\"}", "m"), replacement + replacement + replacement);
    EXPECT_EQ(topLevelString(std::string("{\"m\":\"a\0b\"}", 11), "m"), "a" + replacement + "b");
}

TEST(JsonScan, survivesCutOffText)
{
    const std::string whole = R"({"a":[{"b":"c\u0041"}],"sid":"SM\"1","code":12})";
    for (std::size_t size = 0; size < whole.size(); size++) {
        const std::string cut = whole.substr(0, size);
        topLevelInteger(cut, "code");
        EXPECT_EQ(topLevelString(cut, "sid").value_or("SM\"1"), "SM\"1");
    }
    EXPECT_EQ(topLevelString(R"({"sid":"SM)", "sid"), std::nullopt);
    EXPECT_EQ(topLevelString(R"({"sid":"SM\)", "sid"), std::nullopt);
}

TEST(OnlyMembers, keepsTheNamedOnesThatAreNotNull)
{
    EXPECT_EQ(
        onlyMembers(R"({"sid":"SM1","body":"a, \"}]","status" : "queued" ,"price":null,"n":[1,{"sid":"x"}],"to":2})",
                    "status sid price n"),
        R"({"sid":"SM1","status" : "queued" ,"n":[1,{"sid":"x"}]})");
    EXPECT_EQ(onlyMembers(R"({ "\u0073id" : {"a":"}"} })", "sid"), R"({"\u0073id" : {"a":"}"} })");
    EXPECT_EQ(onlyMembers(R"({"sid":"SM1"})", "status sids si id"), "{}");
    EXPECT_EQ(onlyMembers("{}", "sid"), "{}");
}

TEST(OnlyMembers, leavesWhatIsNoObject)
{
    EXPECT_EQ(onlyMembers(R"(["sid"])", "sid"), R"(["sid"])");
    EXPECT_EQ(onlyMembers("", "sid"), "");
}

TEST(OnlyMembers, survivesEveryCutOfAnObject)
{
    const std::string whole = R"({"sid":"SM1","a":[1,2,{"b":"]"}],"c":"\"","d":-1.5e3,"e":true,"status":"sent"})";
    for (const char* names : {"sid", "status a", "c d e", "none"}) {
        EXPECT_TRUE(looksComplete(onlyMembers(whole, names))) << names;
        for (std::size_t size = 0; size < whole.size(); size++)
            EXPECT_LE(onlyMembers(whole.substr(0, size), names).size(), size + 1) << size;
    }
}

TEST(BlankSecrets, blanksEveryNamedValueAtAnyDepth)
{
    EXPECT_EQ(blanked(R"({"auth_token":"abc","sid":"AC1"})"), R"({"auth_token":"***","sid":"AC1"})");
    EXPECT_EQ(blanked(R"([{"x":{"secret":"s","pin":"12","port_out_pin":"345"}},{"secondary_auth_token":"t"}])"),
              R"([{"x":{"secret":"*","pin":"**","port_out_pin":"***"}},{"secondary_auth_token":"*"}])");
    EXPECT_EQ(blanked(R"({"account_number":"n"})"), R"({"account_number":"*"})");
}

TEST(BlankSecrets, sawThroughSpaceAndEscapes)
{
    EXPECT_EQ(blanked("{ \"auth_token\" \n:\t \"abc\" }"), "{ \"auth_token\" \n:\t \"***\" }");
    EXPECT_EQ(blanked(R"({"\u0061uth_t\u006Fken":"abc"})"), R"({"\u0061uth_t\u006Fken":"***"})");
    EXPECT_EQ(blanked(R"({"auth_token":"a\"b\\"})"), R"({"auth_token":"******"})");
}

TEST(BlankSecrets, blanksWhatIsCutOff)
{
    EXPECT_EQ(blanked(R"({"auth_token":"abc)"), R"({"auth_token":"***)");
    EXPECT_EQ(blanked(R"({"auth_token":"abc\)"), R"({"auth_token":"****)");
    EXPECT_EQ(blanked(R"("auth_token":"abc")"), R"("auth_token":"***")");
}

TEST(BlankSecrets, leavesOthersAlone)
{
    for (const char* json :
         {R"({"auth_tokens":"abc"})", R"({"x":"auth_token"})", R"(["auth_token","abc"])",
          R"({"pin":null,"secret":1,"pin":{"a":"b"}})", R"({"m":"\"pin\":\"12\""})", "", "\"", "{"}) {
        std::string text = json;
        EXPECT_FALSE(blankSecrets(text));
        EXPECT_EQ(text, json);
    }
}

TEST(LooksComplete, acceptsWholeValues)
{
    for (const char* json :
         {"{}", "[]", "null", "true", " false ", "0", "-1.5e+10", "\"\"", R"({"a":[1,2,{"b":null}],"c":"\u0041\n"})",
          R"([[],{},[{}]])", "\r\n{\t\"a\" : 1 }\n", R"({"price":"-0.00750"})"})
        EXPECT_TRUE(looksComplete(json)) << json;
}

TEST(LooksComplete, refusesEverythingElse)
{
    for (const char* json : {"",
                             " ",
                             "{",
                             "[",
                             "}",
                             "{]",
                             "[}",
                             "{}{}",
                             "{} x",
                             "{\"a\"}",
                             "{\"a\":}",
                             "{\"a\":1,}",
                             "[1,]",
                             "[,1]",
                             "{,}",
                             "{a:1}",
                             "\"abc",
                             "\"\\x\"",
                             "\"\\u12g4\"",
                             "\"\\u12",
                             "01",
                             "1.",
                             "-",
                             "+1",
                             "1e",
                             "nul",
                             "nullx",
                             "<html></html>",
                             "{\"a\":1 \"b\":2}",
                             "[1 2]",
                             "\"a\nb\""})
        EXPECT_FALSE(looksComplete(json)) << json;
}

TEST(LooksComplete, refusesEveryCutOfAnObject)
{
    const std::string whole = R"({"a":[{"b":"c\u0041"}],"sid":"SM\"1","code":12,"n":null})";
    ASSERT_TRUE(looksComplete(whole));
    for (std::size_t size = 0; size < whole.size(); size++)
        EXPECT_FALSE(looksComplete(whole.substr(0, size))) << size;
}

TEST(LooksComplete, takesAnyDepthWithoutRecursion)
{
    EXPECT_TRUE(looksComplete(std::string(500, '[') + std::string(500, ']')));
    EXPECT_FALSE(looksComplete(std::string(1'000'000, '[') + std::string(1'000'000, ']')));
    std::string deep;
    for (int i = 0; i < 100'000; i++)
        deep += "{\"pin\":";
    EXPECT_FALSE(looksComplete(deep));
    blankSecrets(deep);
    EXPECT_EQ(topLevelString(deep, "x"), std::nullopt);
}
